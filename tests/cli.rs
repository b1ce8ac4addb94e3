//! The process boundary: exit codes, streams, and the README's commands.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

#[cfg(unix)]
use support::wait::wait_for;

fn centralcap(args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
    command.args(args).stdin(Stdio::null()).env_remove("NO_COLOR");
    command
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = centralcap(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn help_and_version_go_to_stdout() {
    let commands =
        ["record", "decode", "replay", "inspect", "edit", "encode", "diff", "synth", "demo"];
    for command in commands {
        let (code, stdout, stderr) = run(&[command, "--help"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command}");
        assert!(stdout.contains("Usage: centralcap"), "{command}: {stdout}");
        // Not among what is the command's own.
        assert!(stdout.contains("\nFor all commands:\n  -q, --quiet\n"), "{command}: {stdout}");
    }
    let (code, stdout, _) = run(&["--version"]);
    assert_eq!((code, stdout), (Some(0), format!("centralcap {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_help_names_the_topics_that_there_are() {
    let (_, _, stderr) = run(&["synth", "--topics", "none", "-o", "never.mcap"]);
    let (_, rest) = stderr.split_once("expected a topic (").unwrap();
    let (topics, _) = rest.split_once(')').unwrap();
    let (_, stdout, _) = run(&["record", "--help"]);
    let words: Vec<_> = stdout.split_whitespace().collect();
    assert!(words.join(" ").contains(&format!("One topic ({topics})")), "{stdout}");
}

#[test]
fn wrong_usage_is_2_and_says_so_on_stderr() {
    for args in [
        &["decode"][..],
        &["encore"],
        &["decode", "--from", "yesterday", "fixtures/small.mcap"],
        &["replay", "--speed", "fast", "fixtures/small.mcap"],
    ] {
        let (code, stdout, stderr) = run(args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(!stderr.is_empty());
    }
    let (_, _, stderr) = run(&["decode", "--from", "yesterday", "fixtures/small.mcap"]);
    assert!(stderr.contains("expected a moment") && stderr.contains("hint:"), "{stderr}");
}

#[test]
fn a_value_that_is_none_is_told_in_our_words() {
    let whole = "fixtures/small.mcap";
    let wrong = |args: &[&str], expected: &str| {
        let (code, stdout, stderr) = run(args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}");
        let said = stderr.lines().next().unwrap_or_default();
        assert!(said.starts_with("error: invalid value ") && said.contains(expected), "{stderr}");
        assert!(stderr.contains("\nhint: ") && !stderr.contains("tip:"), "{stderr}");
    };
    let moment = "expected a moment";
    let number = "expected a whole number";
    let duration = "expected a duration";
    wrong(&["decode", whole, "--from", "-1h"], "expected a moment, found \"-1h\"");
    wrong(&["decode", "--to", "-10m", whole], moment);
    wrong(&["decode", whole, "--from", "2026-01-05T08:00:00+25:00"], moment);
    wrong(&["decode", whole, "--from", "2026-01-05T08:00:00"], moment);
    wrong(&["edit", whole, "--restamp", "2026-12-01", "-o", "x"], moment);
    wrong(&["encode", "--start", "2026-01-05T08:00:00-24:00", "-o", "x"], moment);
    wrong(&["synth", "--start", "1969-01-01T00:00:00Z", "-o", "x"], moment);
    wrong(&["decode", whole, "--limit", "-1"], "expected a whole number, found \"-1\"");
    wrong(&["decode", whole, "--skip", "many"], number);
    wrong(&["decode", whole, "--threads", "0"], "expected a whole number of at least 1");
    wrong(&["edit", whole, "--sample", "-1", "-o", "x"], number);
    wrong(&["edit", whole, "--level", "-1", "-o", "x"], "expected a level");
    wrong(&["edit", whole, "--split-by", "day", "-o", "x"], "expected one of topic");
    wrong(&["inspect", whole, "--message", "-1"], "expected the number of a frame");
    wrong(&["diff", whole, whole, "--show", "-1"], number);
    wrong(&["synth", "--messages", "99999999999999999999", "-o", "x"], number);
    wrong(&["synth", "--rate", "fast", "-o", "x"], "expected a number of frames a second");
    wrong(&["replay", whole, "--speed", "-1"], "expected a speed");
    wrong(&["replay", whole, "--timeout", "-1s"], duration);
    wrong(&["replay", whole, "--seed", "-1"], number);
    wrong(&["replay", whole, "--burst", "0", "--pps", "1"], number);
    wrong(&["replay", whole, "--listen", "localhost:1"], "expected a port, or an IP address");
    let record = ["record", "--hostname", "localhost", "--topic", "audit", "-o", "x"];
    wrong(&[&record[..], &["--split-every", "-1h"]].concat(), duration);
    wrong(&[&record[..], &["--split-size", "-1"]].concat(), "expected a size");
}

#[test]
fn a_capture_with_chunks_of_lz4_is_not_called_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.mcap").to_str().unwrap().to_owned();
    let out = folder.path().join("out").to_str().unwrap().to_owned();
    let whole = fs::read("fixtures/small.mcap").unwrap();
    // Behind the magic and the header: opcode, length, two times, two sizes and a checksum, as the format says.
    let header = 8 + 1 + 8 + u64::from_le_bytes(whole[9..17].try_into().unwrap()) as usize;
    let mut lz4 = whole[..header].to_vec();
    lz4.push(6);
    lz4.extend(47_u64.to_le_bytes());
    lz4.extend([0; 28]);
    lz4.extend(b"\x03\0\0\0lz4\x04\0\0\0\0\0\0\0\x04\x22\x4d\x18");
    lz4.extend(&whole[header..]);
    fs::write(&other, lz4).unwrap();
    for args in [
        &["decode", &other][..],
        &["inspect", &other],
        &["inspect", "--verify", &other],
        &["edit", &other, "-o", &out],
        &["diff", &other, "fixtures/small.mcap"],
    ] {
        let (code, stdout, stderr) = run(args);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{args:?}: {stderr}");
        let expected = format!("in {other}, found lz4, which is not supported\nhint: ");
        assert!(stderr.contains(&expected) && stderr.contains("mcap compress"), "{stderr}");
        assert!(!stderr.contains("damaged"), "{stderr}");
    }
}

#[test]
fn what_is_taken_for_something_else_by_mistake_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (packed, out) = (path("lines.ndjson.gz"), path("out.mcap"));
    fs::write(&packed, [0x1f, 0x8b, 8, 0]).unwrap();
    let wrong = |args: &[&str], code: i32, error: &str, hint: &str| {
        let (found, stdout, stderr) = run(args);
        assert_eq!((found, stdout.as_str()), (Some(code), ""), "{args:?}: {stderr}");
        let lines: Vec<_> = stderr.lines().collect();
        assert!(lines[0].starts_with("error: ") && lines[0].ends_with(error), "{stderr}");
        assert!(lines[1].starts_with("hint: ") && lines[1].contains(hint), "{stderr}");
    };
    let whole = "fixtures/small.mcap";
    let a_capture = "expected lines of JSON in fixtures/small.mcap, found a capture";
    wrong(&["encode", whole, "-o", &out], 1, a_capture, "centralcap decode");
    wrong(&["encode", &packed, "-o", &out], 1, "found what gzip has packed", "unpack it");
    wrong(
        &["encode", "src", "-o", &out],
        1,
        "cannot read src: Is a directory (os error 21)",
        "a file",
    );
    wrong(&["edit", whole, "-o", &path("new/")], 2, "new/", "-o FILE.mcap");
    wrong(&["replay", whole, "--faults", whole], 1, "valid UTF-8", "text in UTF-8");
    wrong(&["decode", whole, "--proto", "docs"], 1, "there is no .proto file", "--proto DIR");
    // The file that is written first, and renamed, has a name that nobody has chosen.
    let nowhere = "No such file or directory (os error 2)";
    wrong(&["edit", whole, "-o", "/nowhere/new.mcap"], 1, nowhere, "check the path");
    wrong(&["replay", whole, "--report", "/nowhere/report.json"], 1, nowhere, "check the path");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn why_nothing_is_selected_is_told() {
    let whole = "fixtures/small.mcap";
    for (options, why) in [
        (&["--topic", "weather"][..], "; inspect shows which topics and subscriptions there are"),
        (&["--from", "+9h"], "; inspect shows from when to when there are any"),
        (&["--from", "+2m", "--to", "+1m"], ": --to is not after --from"),
        (&["--limit", "0"], ": --limit 0 takes none"),
        (&["--skip", "100000"], "; inspect shows how many there are"),
    ] {
        let (code, stdout, stderr) = run(&[&["decode", whole][..], options].concat());
        let expected = format!("warning: no frame is selected{why}\n");
        assert_eq!((code, stdout.as_str(), stderr), (Some(0), "", expected), "{options:?}");
    }
}

/// Serves for as long as it is needed, and says where.
struct Server(std::process::Child, String);

impl Server {
    fn start(options: &[&str]) -> Self {
        let mut replay = centralcap(&["replay", "fixtures/small.mcap"]);
        let mut child =
            replay.args(options).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
        Self(child, ready["hostname"].as_str().unwrap().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn what_is_wrong_with_a_servers_tls_is_told_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cert, key, other) = (path("cert.pem"), path("key.pem"), path("other.pem"));
    let pair = rcgen::KeyPair::generate().unwrap();
    fs::write(&key, pair.serialize_pem()).unwrap();
    let made = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        params.self_signed(&pair).unwrap().pem()
    };
    let long_ago = |params: &mut rcgen::CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    };
    let an_authority = |params: &mut rcgen::CertificateParams| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    };
    let elsewhere = rcgen::CertificateParams::new(vec!["elsewhere.example".to_owned()]).unwrap();
    fs::write(&other, made(&|_| ())).unwrap();

    let own = ["--cert", &cert, "--key", &key];
    let said = |cert_pem: String, options: &[&str], trusted: &str| {
        fs::write(&cert, cert_pem).unwrap();
        let server = Server::start(options);
        let out = path("out.mcap");
        let output = centralcap(&["record", "--topic", "audit", "--stop-after-duration", "500ms"])
            .args(["--hostname", &format!("wss://{}", server.1), "--ca", trusted, "-o", &out])
            .env("CENTRALCAP_KEY", "any")
            .output()
            .unwrap();
        fs::remove_file(&out).ok();
        String::from_utf8(output.stderr).unwrap()
    };
    let failed = "audit: TLS with 127.0.0.1 failed: ";
    let tells = |found: String, expected: &str, hint: &str| {
        let line = found.lines().find_map(|line| line.strip_prefix(failed)).unwrap_or(&found);
        assert!(line.starts_with(expected) && line.contains(hint), "{found}");
    };
    tells(
        said(made(&an_authority), &own, &cert),
        "the server shows the certificate of an authority as its own",
        "CA:FALSE",
    );
    tells(said(made(&long_ago), &own, &cert), "the server's certificate has expired", "clock");
    let elsewhere = elsewhere.self_signed(&pair).unwrap().pem();
    tells(
        said(elsewhere, &own, &cert),
        "the server's certificate is for another name",
        "--hostname",
    );
    let theirs = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(&other, theirs.cert.pem()).unwrap();
    tells(said(made(&|_| ()), &own, &other), "nobody who is trusted has signed", "--ca FILE");
    tells(said(String::new(), &[], &other), "nobody who is trusted has signed", "--ca FILE");
    tells(said(made(&|_| ()), &["--plain"], &cert), "what the server answers is no TLS", "ws://");
    // Whoever does as it is told is served.
    let good = said(made(&|params| params.is_ca = rcgen::IsCa::ExplicitNoCa), &own, &cert);
    assert!(good.contains("audit: connected"), "{good}");
}

#[test]
fn words_that_nobody_can_hear_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made.mcap");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut synth = centralcap(&["synth", "--messages", "5", "--output"]);
    let status = synth.arg(&made).stderr(writer.try_clone().unwrap()).status().unwrap();
    assert_eq!((status.code(), made.exists()), (Some(0), true));
    let status = centralcap(&["decode", "/nonexistent/capture.mcap"]).stderr(writer).status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn what_cannot_be_read_is_1_and_named_once() {
    let (code, _, stderr) = run(&["decode", "/nonexistent/capture.mcap"]);
    assert_eq!(code, Some(1));
    assert_eq!(stderr.matches("No such file").count(), 1, "{stderr}");
    let (code, _, stderr) = run(&["inspect", "README.md"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("expected a capture") && stderr.contains("hint:"), "{stderr}");
}

/// What opens it waits until somebody writes to it.
#[cfg(unix)]
#[test]
fn a_pipe_is_no_capture_and_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe").to_str().unwrap().to_owned();
    let out = folder.path().join("out").to_str().unwrap().to_owned();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let whole = "fixtures/small.mcap";
    let capture = "error: expected a capture in a file or a folder, found";
    let at_pipe = format!("{capture} the pipe {pipe}\n");
    let policy = format!("error: expected a policy in a file, found the pipe {pipe}\n");
    for (args, expected) in [
        (&["decode", &pipe][..], &at_pipe),
        (&["edit", &pipe, "-o", &out], &at_pipe),
        (&["edit", whole, &pipe, "-o", &out, "--redact"], &at_pipe),
        (&["diff", &pipe, whole], &at_pipe),
        (&["diff", whole, &pipe], &at_pipe),
        (&["inspect", &pipe], &at_pipe),
        (&["replay", &pipe], &at_pipe),
        (&["edit", whole, "-o", &out, "--redact", "--redact-policy", &pipe], &policy),
        (&["decode", "-"], &format!("{capture} stdin\n")),
    ] {
        let mut child = centralcap(args).stderr(Stdio::piped()).spawn().unwrap();
        let is_over = || child.try_wait().unwrap().is_some();
        wait_for("end", || args.join(" "), is_over);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.starts_with(expected) && stderr.contains("\nhint: "), "{args:?}: {stderr}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn colour_is_for_those_who_ask() {
    let (_, _, plain) = run(&["decode", "/nonexistent"]);
    assert!(!plain.contains('\x1b'));
    let (_, _, coloured) = run(&["--color", "always", "decode", "/nonexistent"]);
    assert!(coloured.contains('\x1b'));
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_error() {
    // The reader takes one line and leaves; what is left does not fit in the pipe.
    let mut child = centralcap(&["decode", "fixtures/campus.mcap"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::with_capacity(64, child.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
    assert!(line.starts_with("{\"received\":"));
}

#[test]
fn the_demo_serves_records_inspects_and_decodes() {
    let folder = tempfile::tempdir().unwrap();
    let keep = folder.path().join("kept");
    let (code, stdout, stderr) = run(&["demo", "--keep", keep.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("600 frames served, 600 frames recorded"), "{stderr}");
    assert!(stdout.contains("frames over time"), "{stdout}");
    assert!(stdout.lines().filter(|line| line.starts_with("{\"received\":")).count() == 4);
    for name in ["campus.mcap", "recorded.mcap", "ca.pem"] {
        assert!(keep.join(name).is_file(), "{name}");
    }
    let first = fs::read(keep.join("ca.pem")).unwrap();
    let (code, _, stderr) = run(&["demo", "--keep", keep.to_str().unwrap()]);
    assert_eq!(fs::read(keep.join("ca.pem")).unwrap(), first);
    assert_eq!(code, Some(1), "a second demo must not overwrite the first");
    assert!(stderr.contains("already there"), "{stderr}");
}

/// A folder with the fixtures, and the command by its name: where the README's commands run.
#[cfg(unix)]
struct Stranger {
    folder: tempfile::TempDir,
    path: String,
    readme: String,
}

#[cfg(unix)]
impl Stranger {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixtures = folder.path().join("fixtures");
        fs::create_dir(&fixtures).unwrap();
        for item in fs::read_dir("fixtures").unwrap() {
            let item = item.unwrap();
            fs::copy(item.path(), fixtures.join(item.file_name())).unwrap();
        }
        let command = assert_cmd::cargo::cargo_bin!("centralcap");
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", command.parent().unwrap().display());
        Self { folder, path, readme: fs::read_to_string("README.md").unwrap() }
    }

    /// What a script says on stdout.
    #[track_caller]
    fn run(&self, script: &str) -> String {
        let output = Command::new("sh")
            .args(["-e", "-c", script])
            .current_dir(self.folder.path())
            .env("PATH", &self.path)
            .env("CENTRALCAP_KEY", "synthetic-key")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Runs every `$ centralcap ...` line of the README as it stands there, and what spoils a file for one.
/// Lines with a made-up host are for those who have an account, and so are those with what they
/// recorded; `replay` waits for a client, which the tests of replay have.
#[cfg(unix)]
#[test]
fn the_commands_in_the_readme_run() {
    let stranger = Stranger::new();
    let lines: Vec<_> = stranger
        .readme
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .filter(|line| {
            (line.starts_with("centralcap") || line.starts_with("printf "))
                && !line.contains("example.com")
                && !line.contains("captures/")
                && !line.contains(" replay ")
        })
        .collect();
    assert!(lines.len() >= 4, "{lines:?}");
    for line in lines {
        stranger.run(line);
    }
}

/// The whole of it, as one script, but for the port: another may be in use here.
#[cfg(unix)]
#[test]
fn the_recipe_in_the_readme_ends_without_differences() {
    let stranger = Stranger::new();
    let (_, recipe) = stranger.readme.split_once("## From a capture to a test").unwrap();
    let (_, script) = recipe.split_once("```sh\n").unwrap();
    let (script, _) = script.split_once("```").unwrap();
    assert_eq!(script.matches("18443").count(), 2, "{script}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // The server's own exit code counts as well.
    let script = script.replace("18443", &port.to_string());
    let said = stranger.run(&format!("exec 2>&1\n{script}wait $!"));
    assert!(said.contains("no differences in 8 frames"), "{said}");
}
