//! Ready-made files of rules, by name.

/// Rules that come with centralcap.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The file.
    pub rules: &'static str,
}

impl Scenario {
    /// What it does, in one line.
    pub fn description(&self) -> &'static str {
        let first = self.rules.lines().next().unwrap_or_default();
        first
            .strip_prefix("description = \"")
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(first)
    }
}

macro_rules! scenarios {
    ($($name:literal)*) => {
        /// All of them.
        pub const SCENARIOS: &[Scenario] = &[
            $(Scenario { name: $name, rules: include_str!(concat!("scenarios/", $name, ".toml")) },)*
        ];
    };
}

scenarios! {
    "bad-tls"
    "bursts"
    "close-codes"
    "duplicates"
    "flaky-network"
    "fragments"
    "half-open"
    "key-expiry"
    "malformed"
    "oversize"
    "pings"
    "refused-handshakes"
    "reordered"
    "schema-drift"
    "slow-server"
    "wrong-type"
}

/// All names, for a message.
pub(super) fn names() -> String {
    SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ")
}
