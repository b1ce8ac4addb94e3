//! The built command, run as a user would.

use std::ffi::OsStr;

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The lines of stdout, each of which has to be JSON.
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let lines = self.stdout.lines();
        lines.map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }
}

/// Runs it to its end, in an environment that says nothing about language or colour.
pub fn centralcap<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ran {
    centralcap_with(&[], arguments)
}

/// The same with something in the environment.
pub fn centralcap_with<A: AsRef<OsStr>>(
    environment: &[(&str, &str)],
    arguments: impl IntoIterator<Item = A>,
) -> Ran {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("centralcap");
    for name in ["LC_ALL", "LC_CTYPE", "LANG", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied()).args(arguments);
    let output = command.output().unwrap();
    let text = |data| String::from_utf8(data).expect("the output is UTF-8");
    Ran {
        code: output.status.code().expect("an exit code, and no signal"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}
