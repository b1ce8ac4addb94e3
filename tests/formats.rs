//! What `decode` writes besides lines of JSON, and which frames it asks a condition about.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use support::command::{Ran, centralcap};

/// Two customers, all topics.
const CAPTURE: &str = "fixtures/campus.mcap";

fn decoded(options: &[&str]) -> Ran {
    centralcap(["decode", CAPTURE].iter().chain(options))
}

fn lines() -> Vec<Value> {
    decoded(&["--quiet"]).json_lines()
}

/// A table by column, each row with the same number of cells.
fn table(text: &[u8]) -> (Vec<String>, Vec<BTreeMap<String, String>>) {
    let mut reader = csv::Reader::from_reader(text);
    let columns: Vec<_> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let unique: BTreeSet<_> = columns.iter().collect();
    assert_eq!(unique.len(), columns.len(), "{columns:?}");
    let rows = reader.records().map(|row| {
        let row = row.unwrap();
        columns.iter().cloned().zip(row.iter().map(str::to_owned)).collect()
    });
    let rows = rows.collect();
    (columns, rows)
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for item in fs::read_dir(next).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_folder_gets_a_table_for_each_list_and_nothing_is_missing_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let tables = folder.path().join("tables");
    let ran = decoded(&["--format", "csv", "--quiet", "-o", tables.to_str().unwrap()]);
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (0, "", ""), "{ran:?}");

    let lines = lines();
    let of = |topic: &'static str| lines.iter().filter(move |line| line["topic"] == topic);
    // One row for each frame.
    for topic in ["apprf", "audit", "monitoring", "presence", "security"] {
        let (_, rows) = table(&fs::read(tables.join(format!("{topic}.csv"))).unwrap());
        assert_eq!(rows.len(), of(topic).count(), "{topic}");
        for (row, line) in rows.iter().zip(of(topic)) {
            assert_eq!(row["received"], line["received"], "{topic}");
            assert_eq!(row["customer_id"], line["customer_id"], "{topic}");
        }
    }
    // One row for each element, with its own values and those of what has it.
    let (columns, rows) = table(&fs::read(tables.join("monitoring/radio_stats.csv")).unwrap());
    let expected: Vec<_> = of("monitoring")
        .flat_map(|line| {
            let list = line["data"]["radio_stats"].as_array().cloned().unwrap_or_default();
            list.into_iter().enumerate().map(move |(at, stats)| (line, at.to_string(), stats))
        })
        .collect();
    assert!(expected.len() > 5);
    assert_eq!(rows.len(), expected.len());
    let its = |name: &str| format!("data.radio_stats[].{name}");
    for (row, (line, at, stats)) in rows.iter().zip(expected) {
        assert_eq!(
            (&row["received"], &row["data.radio_stats[]"]),
            (&plain(&line["received"]), &at)
        );
        assert_eq!(row["data.customer_id"], plain(&line["data"]["customer_id"]));
        assert_eq!(row[&its("device_id")], plain(&stats["device_id"]));
        assert_eq!(row[&its("macaddr.addr")], plain(&stats["macaddr"]["addr"]));
        assert_eq!(row[&its("timestamp")], plain(&stats["timestamp"]));
    }
    // All columns are there, also those that hold nothing in this capture.
    let declared = fs::read_to_string("tests/data/fields.tsv").unwrap();
    let names = declared.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    for field in names.filter(|field| field[2] == "Monitoring.RadioStats") {
        let field_is = its(field[6]);
        let is_column =
            |name: &String| *name == field_is || name.starts_with(&format!("{field_is}."));
        assert!(columns.iter().any(is_column), "{field:?} in {columns:?}");
    }
    // What is deeper knows what it belongs to.
    let (columns, rows) =
        table(&fs::read(tables.join("monitoring/switches.management_modules.csv")).unwrap());
    let expected: Vec<_> = of("monitoring")
        .flat_map(|line| line["data"]["switches"].as_array().cloned().unwrap_or_default())
        .flat_map(|switch| {
            let modules = switch["management_modules"].as_array().cloned().unwrap_or_default();
            modules.into_iter().map(move |module| [&switch["serial"], &module["index"]].map(plain))
        })
        .collect();
    assert!(!expected.is_empty());
    let names = ["data.switches[].serial", "data.switches[].management_modules[].index"];
    let found = rows.iter().map(|row| names.map(|name| row[name].clone()));
    assert!(found.eq(expected));
    assert!(!columns.iter().any(|name| name.contains("vsx")), "{columns:?}");

    // Whoever decodes again does not write over it.
    let before = files_below(&tables);
    assert!(before.len() > 40, "{before:?}");
    let ran = decoded(&["--format", "csv", "-o", tables.to_str().unwrap()]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("already there\nhint: "), "{ran:?}");
    assert_eq!(files_below(&tables), before);
}

#[test]
fn the_names_of_a_tables_columns_select_the_same_table() {
    let folder = tempfile::tempdir().unwrap();
    let tables = folder.path().join("tables");
    let ran = decoded(&["--format", "csv", "--quiet", "-o", tables.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let files = files_below(&tables);
    assert!(files.len() > 40, "{files:?}");
    for name in files {
        let topic = name.split(['/', '.']).next().unwrap();
        let expected = fs::read_to_string(tables.join(&name)).unwrap();
        let columns = expected.lines().next().unwrap();
        let ran = decoded(&["--topic", topic, "--select", columns, "--quiet"]);
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "{name}");
        // Frames of the other payload of its topic are in a table of their own.
        assert!(topic == "location" || ran.stdout == expected, "{name}");
    }
}

#[test]
fn tables_join_what_is_in_a_folder_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let tables = folder.path().to_str().unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let csv =
        |topic: &str| decoded(&["--format", "csv", "--quiet", "--topic", topic, "-o", tables]);
    assert_eq!(csv("audit").code, 0);
    assert_eq!(csv("presence").code, 0);
    let before = files_below(folder.path());
    for name in ["audit.csv", "notes.txt", "presence.csv", "presence/pa_rssi_event.rssi.csv"] {
        assert!(before.iter().any(|found| found == name), "{name} in {before:?}");
    }
    let (_, rows) = table(&fs::read(folder.path().join("audit.csv")).unwrap());
    assert_eq!(rows.len(), lines().iter().filter(|line| line["topic"] == "audit").count());
    // None of these tables is new, and those of another topic would be.
    let ran = csv("audit,security");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("audit.csv already there\nhint: "), "{ran:?}");
    assert_eq!(files_below(folder.path()), before);

    let file = folder.path().join("notes.txt");
    let ran = decoded(&["--format", "csv", "-o", file.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.stderr.contains("notes.txt already there\n"), "{ran:?}");
}

/// A limit on the size of files stands for a disk that is full.
#[cfg(unix)]
#[test]
fn what_could_not_be_written_whole_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    fs::create_dir(&there).unwrap();
    for options in [
        &["-o", "lines.ndjson"][..],
        &["-o", "lines.ndjson.zst"],
        &["-o", "document.json", "--format", "json"],
        &["-o", "table.csv", "--select", "received,subscription,type"],
        &["-o", "tables", "--format", "csv"],
        &["-o", "not/there/yet", "--format", "csv"],
        &["-o", "there", "--format", "csv"],
    ] {
        let output = std::process::Command::new("sh")
            .args(["-c", "ulimit -f 16; exec \"$@\"", "sh"])
            .arg(assert_cmd::cargo::cargo_bin!("centralcap"))
            .arg("decode")
            .arg(fs::canonicalize(CAPTURE).unwrap())
            .args(options)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{options:?}: {words}");
        assert!(words.contains("cannot write the output: File too large"), "{options:?}: {words}");
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(left.iter().map(fs::DirEntry::path).collect::<Vec<_>>(), [&*there]);
        assert_eq!(fs::read_dir(&there).unwrap().count(), 0, "{options:?}");
    }
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_take_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let expected = decoded(&["--quiet"]).stdout;
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    let ran = decoded(&["--quiet", "-o", pipe.to_str().unwrap()]);
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{ran:?}");
    assert!(reader.join().unwrap() == expected);
    assert_eq!(files_below(folder.path()), ["pipe"]);

    let ran = decoded(&["--quiet", "-o", "/dev/null"]);
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (0, "", ""), "{ran:?}");
    if Path::new("/dev/stdout").exists() {
        let ran = decoded(&["--quiet", "-o", "/dev/stdout"]);
        assert!(ran.code == 0 && ran.stdout == expected, "{}", ran.stderr);
    }
    if Path::new("/dev/full").exists() {
        let ran = decoded(&["--quiet", "-o", "/dev/full"]);
        assert!(ran.code == 1 && ran.stderr.contains("cannot write the output"), "{ran:?}");
    }
}

/// As it stands in a cell.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn a_few_columns_make_one_table_with_a_row_for_each_element() {
    let columns = "time,subscription,customer_id,data.aps[].serial,data.aps[].ip_address.addr";
    let ran = decoded(&["--select", columns, "--quiet"]);
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{ran:?}");
    let (names, rows) = table(ran.stdout.as_bytes());
    assert_eq!(names.join(","), columns);
    let expected: Vec<_> = lines()
        .into_iter()
        .flat_map(|line| {
            let aps = line["data"]["aps"].as_array().cloned().unwrap_or_default();
            aps.into_iter().map(move |ap| {
                [
                    plain(&line["time"]),
                    plain(&line["subscription"]),
                    plain(&line["customer_id"]),
                    plain(&ap["serial"]),
                    plain(&ap["ip_address"]["addr"]),
                ]
            })
        })
        .collect();
    assert!(!expected.is_empty());
    let found = rows.iter().map(|row| [0, 1, 2, 3, 4].map(|at| row[&names[at]].clone()));
    assert!(found.eq(expected));
}

#[test]
fn without_a_list_there_is_a_row_for_each_frame_that_has_one_of_the_columns() {
    let ran = decoded(&["--select", "topic,sequence,type", "--quiet"]);
    let (_, rows) = table(ran.stdout.as_bytes());
    assert_eq!(rows.len(), lines().len());
    let ran = decoded(&["--select", "topic,data.sta_location_x,data.geofence_ids", "--quiet"]);
    let (_, rows) = table(ran.stdout.as_bytes());
    let is_location = |line: &&Value| line["type"] == "Location.stream_location";
    assert_eq!(rows.len(), lines().iter().filter(is_location).count());
    assert!(rows.iter().any(|row| row["data.geofence_ids"].starts_with("[\"")), "{rows:?}");
}

#[test]
fn a_column_that_no_frame_can_have_is_told() {
    let ran = decoded(&["--select", "time,data.aps[].seriall", "--quiet"]);
    assert_eq!((ran.code, &*ran.stdout), (3, "time,data.aps[].seriall\n"), "{ran:?}");
    assert_eq!(
        ran.stderr,
        "warning: no frame's type has a value at data.aps[].seriall; inspect --schema shows its fields\n"
    );
}

#[test]
fn where_there_is_no_frame_no_column_is_to_blame() {
    let ran =
        decoded(&["--select", "data.aps[].serial", "--topic", "apprf", "--to", "+0s", "--quiet"]);
    assert_eq!((ran.code, &*ran.stdout), (0, "data.aps[].serial\n"), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert!(ran.stderr.starts_with("warning: no frame is selected"), "{ran:?}");
}

#[test]
fn one_document_has_an_array_for_each_topic() {
    let ran = decoded(&["--format", "json", "--quiet", "--unknown"]);
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{ran:?}");
    let document: BTreeMap<String, Vec<Value>> = serde_json::from_str(&ran.stdout).unwrap();
    let mut expected = BTreeMap::<String, Vec<Value>>::new();
    for line in decoded(&["--quiet", "--unknown"]).json_lines() {
        expected.entry(plain(&line["topic"])).or_default().push(line);
    }
    assert_eq!(document, expected);
    // As a person would have it.
    let again: Value = serde_json::from_str(&ran.stdout).unwrap();
    let pretty = serde_json::to_string_pretty(&again).unwrap() + "\n";
    let without_floats = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.contains('.')).map(str::to_owned).collect()
    };
    assert_eq!(without_floats(&ran.stdout), without_floats(&pretty));

    let nothing = decoded(&["--format", "json", "--topic", "none", "--quiet"]);
    assert_eq!((nothing.code, &*nothing.stdout), (0, "{}\n"));
}

#[test]
fn a_condition_lets_frames_pass_in_every_format() {
    let down = ".data.aps[]?.status == \"DOWN\"";
    let ran = decoded(&["--where", down, "--quiet"]);
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{ran:?}");
    let is_down = |line: &Value| {
        let aps = line["data"]["aps"].as_array();
        aps.is_some_and(|aps| aps.iter().any(|ap| ap["status"] == "DOWN"))
    };
    let expected: Vec<_> = lines().into_iter().filter(is_down).collect();
    assert!(!expected.is_empty());
    assert_eq!(ran.json_lines(), expected);

    let ran = decoded(&["--where", down, "--select", "received", "--quiet"]);
    let (_, rows) = table(ran.stdout.as_bytes());
    let received: Vec<_> = expected.iter().map(|line| plain(&line["received"])).collect();
    assert!(rows.iter().map(|row| &row["received"]).eq(&received));
    // The condition is asked about what the selection lets through, and of nothing else.
    let ran = decoded(&["--where", "true", "--topic", "audit", "--limit", "2", "--quiet"]);
    assert_eq!(ran.json_lines().len(), 2);
}

#[test]
fn a_condition_that_fails_on_a_frame_is_told_and_the_rest_goes_on() {
    let failing = "if .topic == \"audit\" then .topic + 1 else .topic == \"security\" end";
    let ran = decoded(&["--where", failing]);
    let of = |topic: &str| lines().iter().filter(|line| line["topic"] == topic).count();
    assert_eq!((ran.code, ran.json_lines().len()), (3, of("security")), "{ran:?}");
    assert_eq!(ran.stderr.matches("warning: cannot judge frame ").count(), of("audit"), "{ran:?}");
    let told = format!("0 could not be, {} that --where failed on, 0 damaged places", of("audit"));
    assert!(ran.stderr.contains(&told), "{ran:?}");
    let ran = decoded(&["--where", failing, "--strict", "--topic", "audit"]);
    assert_eq!((ran.code, &*ran.stdout), (1, ""), "{ran:?}");
    assert!(ran.stderr.contains("hint: a ? behind a path"), "{ran:?}");
}

#[test]
fn what_makes_no_sense_together_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let output = output.to_str().unwrap();
    let table = &format!("{output}.csv");
    for (options, words) in [
        (&["--format", "csv"][..], "expected a folder for the tables"),
        (&["--format", "csv", "-o", table], "hint: choose the columns of one table with --select"),
        (&["-o", table], "hint: --select makes one table of the columns that it names"),
        (&["--format", "json", "--select", "time", "-o", output], "--format csv beside --select"),
        (&["--format", "csv", "--unknown", "-o", output], "--unknown"),
        (&["--select", "data.aps[].x,data.radios[].y", "-o", output], "lists that lie within"),
        (&["--select", "data.aps[0]", "-o", output], "expected a column"),
        (&["--where", ".a ==", "-o", output], "expected a jq expression"),
        (&["--where", ".topic = \"audit\"", "-o", output], "hint: == compares"),
        (&["--format", "xml", "-o", output], "xml"),
    ] {
        let ran = decoded(options);
        assert_eq!((ran.code, &*ran.stdout), (2, ""), "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?}");
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "{options:?}");
    }
    // Neither does a capture that is not there leave something behind.
    for format in [&["--format", "csv"][..], &["--format", "json"], &["--select", "time"]] {
        let ran = centralcap(["decode", "no.mcap", "-o", output].iter().chain(format));
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "{format:?}");
    }
}
