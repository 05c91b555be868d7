//! `--from`: where a reader begins.

use std::{str::FromStr, time::Duration};

use crate::types::Cursor;

/// A start position, as written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// After everything stored now.
    Live,
    /// With the oldest event kept.
    Earliest,
    /// With the newest N.
    Last(u64),
    /// With the first event stored since so long ago.
    Since(Duration),
    /// After this place.
    After(Cursor),
    /// With the latest event of each key.
    Snapshot,
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let forms = "write live, earliest, snapshot, last:N, since:DURATION (such as since:10m) or EPOCH:OFFSET";
        match text.split_once(':') {
            None if text == "live" => Ok(Self::Live),
            None if text == "earliest" => Ok(Self::Earliest),
            None if text == "snapshot" => Ok(Self::Snapshot),
            None => Err(forms.to_owned()),
            Some(("last", count)) => {
                count.parse().map(Self::Last).map_err(|_| format!("{count:?} is no number of events; write last:100"))
            }
            Some(("since", age)) => {
                humantime::parse_duration(age).map(Self::Since).map_err(|error| format!("{error}; write since:10m"))
            }
            Some(_) => text.parse().map(Self::After).map_err(|_| forms.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood() {
        let cursor = Cursor { epoch: 0xfeed, offset: 12, ..Cursor::default() };
        let cases = [
            ("live", From::Live),
            ("earliest", From::Earliest),
            ("snapshot", From::Snapshot),
            ("last:20", From::Last(20)),
            ("since:90s", From::Since(Duration::from_secs(90))),
            ("since:1h 30m", From::Since(Duration::from_secs(5400))),
            ("000000000000feed:12", From::After(cursor)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in ["", "now", "last", "last:", "last:-1", "since:", "since:soon", "feed:12", "12"] {
            assert!(bad.parse::<From>().is_err(), "{bad:?}");
        }
    }
}
