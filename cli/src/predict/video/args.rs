//! Arguments of `predict` for videos.

use clap::Args;
use std::num::NonZeroU32;
use std::str::FromStr;

#[derive(Clone, Debug, Args)]
pub struct VideoArgs {
    /// Predict every Nth frame of a video; the annotated video has the reduced frame rate
    #[arg(long, value_name = "N", default_value = "1")]
    pub stride: NonZeroU32,
    /// Start of the part of a video that is read, in seconds or as HH:MM:SS
    #[arg(long, value_name = "TIME")]
    pub start: Option<Time>,
    /// End of the part of a video that is read, or the length of a camera's recording, in seconds or as HH:MM:SS
    #[arg(long, value_name = "TIME")]
    pub end: Option<Time>,
}

/// A position in a video in seconds.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Time(pub f64);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a time; give seconds such as 12.5, or MM:SS or HH:MM:SS");
        let parts: Vec<&str> = text.split(':').collect();
        if parts.len() > 3 {
            return Err(wrong());
        }
        let mut seconds = 0.0;
        for (index, part) in parts.iter().enumerate() {
            let is_number = part.chars().all(|c| c.is_ascii_digit() || c == '.');
            let value: f64 = part.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
            if index > 0 && value >= 60.0 {
                return Err(wrong());
            }
            seconds = seconds * 60.0 + value;
        }
        Ok(Self(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_parts_of_an_hour() {
        for (text, seconds) in [("12.5", 12.5), ("1:02", 62.0), ("01:00:03.25", 3603.25)] {
            assert_eq!(text.parse(), Ok(Time(seconds)));
        }
        for wrong in ["", "-1", "1:75", "1:2:3:4", "inf", "a", "1e3"] {
            assert!(
                wrong.parse::<Time>().unwrap_err().contains("HH:MM:SS"),
                "{wrong}"
            );
        }
    }
}
