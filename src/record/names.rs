//! The names of a recording's segments: each is the moment at which the segment begins.

use std::{path::Path, time::Duration};

use crate::{capture::SEALED_SUFFIX, entry::Timestamp};

/// Names of segments differ by this at least.
pub(super) const NAME_STEP: Duration = Duration::from_millis(1);

/// `20260101T080000.000Z.mcap`: names sort as the moments do.
pub(super) fn name_at(moment: Timestamp) -> String {
    let text = moment.to_string();
    let to_millis = text.chars().take("2026-01-01T00:00:00.000".len());
    let stamp: String = to_millis.filter(|character| !matches!(character, '-' | ':')).collect();
    format!("{stamp}Z{SEALED_SUFFIX}")
}

/// The moment that [`name_at`] made a name of.
pub(super) fn moment_in(path: &Path) -> Option<Timestamp> {
    path.file_name()?.to_str()?.strip_suffix(SEALED_SUFFIX)?.parse().ok()
}

/// Whether a recording has given the file its name. Nobody else's file is ever deleted.
pub(super) fn is_name(name: &str) -> bool {
    const SHAPE: &str = "00000000T000000.000Z";

    let Some(stem) = name.strip_suffix(SEALED_SUFFIX) else { return false };
    let fits = |(found, shape): (char, char)| match shape {
        '0' => found.is_ascii_digit(),
        _ => found == shape,
    };
    stem.len() == SHAPE.len() && stem.chars().zip(SHAPE.chars()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_moments_do_and_are_known_again() {
        let moment = Timestamp::from_nanos(1_795_000_000_000_000_000);
        let name = name_at(moment);
        assert_eq!(name, "20261118T110640.000Z.mcap");
        assert!(is_name(&name));
        assert_eq!(moment_in(Path::new(&name)), Some(moment));
        assert!(name < name_at(moment.after(Duration::from_millis(1))));
        for other in [
            "precious.mcap",
            "20261118T110640.000Z.open.mcap",
            "20261118T110640.000Z",
            "x20261118T11264.000Z.mcap",
        ] {
            assert!(!is_name(other), "{other}");
        }
    }
}
