//! Live sources: cameras, and ffmpeg's filters (`lavfi:`) in their place.

use anyhow::{Result, bail};
use mrcnn_core::data::printable;
use std::ffi::OsStr;
use std::path::Path;

/// A source that has no end and does not wait: frames that are not predicted in time are lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// The argument that names it.
    pub name: String,
    /// Input options of ffmpeg and ffprobe.
    pub options: Vec<&'static str>,
    /// Input that the options open.
    pub input: String,
    /// Whether ffmpeg has to slow the input down to its frame rate.
    pub is_generated: bool,
}

/// A camera by number or by name.
enum Camera<'a> {
    Number(&'a str),
    Name(&'a str),
}

impl Live {
    /// The camera or filter that an argument names; `None` if it names none.
    pub fn parse(argument: &OsStr) -> Result<Option<Self>> {
        let Some(name) = argument.to_str() else {
            return Ok(None);
        };
        if let Some(graph) = name.strip_prefix("lavfi:") {
            return Ok(Some(Self {
                name: name.into(),
                options: vec!["-f", "lavfi"],
                input: graph.into(),
                is_generated: true,
            }));
        }
        let is_number = !name.is_empty() && name.chars().all(|c| c.is_ascii_digit());
        let camera = match name.strip_prefix("webcam:") {
            Some(camera) => Camera::Name(camera),
            None if name.starts_with("/dev/video") => Camera::Name(name),
            // A file may have such a name too.
            None if is_number && !Path::new(name).exists() => Camera::Number(name),
            None => return Ok(None),
        };
        Self::camera(name, &camera, std::env::consts::OS).map(Some)
    }

    /// A camera on an operating system.
    fn camera(name: &str, camera: &Camera<'_>, system: &str) -> Result<Self> {
        let (options, input) = match (system, camera) {
            ("linux", Camera::Number(number)) => {
                (vec!["-f", "v4l2"], format!("/dev/video{number}"))
            }
            ("linux", Camera::Name(camera)) => (vec!["-f", "v4l2"], device(camera)?),
            ("macos", Camera::Number(camera) | Camera::Name(camera)) => {
                // Without a rate, ffmpeg requests one that many cameras lack; `none` selects no microphone.
                let options = vec!["-f", "avfoundation", "-framerate", "30"];
                (options, format!("{camera}:none"))
            }
            ("windows", Camera::Name(camera)) => (vec!["-f", "dshow"], format!("video={camera}")),
            ("windows", Camera::Number(_)) => bail!(
                "{name}: on Windows, give a webcam by its name, as webcam:NAME; `ffmpeg -list_devices true -f dshow -i \
                 dummy` lists the names"
            ),
            _ => bail!("{name}: webcams are read on Linux, macOS and Windows; give a video file"),
        };
        Ok(Self {
            name: name.into(),
            options,
            input,
            is_generated: false,
        })
    }

    /// Letters and digits of the name, for the names of the results.
    pub fn stem(&self) -> String {
        let name = self.name.trim_start_matches("lavfi:");
        let name = name
            .trim_start_matches("webcam:")
            .trim_start_matches("/dev/");
        let end = name.find(['=', ',', ';']).unwrap_or(name.len());
        let safe = |c: char| if c.is_alphanumeric() { c } else { '_' };
        match name.chars().all(|c| c.is_ascii_digit()) {
            true => format!("webcam{name}"),
            false => name[..end].chars().take(40).map(safe).collect(),
        }
    }
}

/// The device file of a camera on Linux, by its path or by the name that its driver gives it.
fn device(camera: &str) -> Result<String> {
    if camera.starts_with('/') {
        return Ok(camera.into());
    }
    let entries = std::fs::read_dir("/sys/class/video4linux")
        .into_iter()
        .flatten();
    let mut found: Vec<(String, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = std::fs::read_to_string(entry.path().join("name")).ok()?;
            let file = entry.file_name().into_string().ok()?;
            Some((name.trim().to_string(), format!("/dev/{file}")))
        })
        .collect();
    // A camera often has a second device for its metadata, with a higher number.
    found.sort_by_key(|(_, path)| (path.len(), path.clone()));
    if let Some((_, path)) = found.iter().find(|(name, _)| name == camera) {
        return Ok(path.clone());
    }
    let names: Vec<String> = found.iter().map(|(name, _)| printable(name)).collect();
    let names = match names.is_empty() {
        true => "this machine has no webcam".into(),
        false => format!("the webcams are {}", names.join(", ")),
    };
    bail!(
        "webcam:{}: no webcam has this name; {names}",
        printable(camera)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_are_opened_as_each_system_does() {
        let opened = |system, camera| {
            let live = Live::camera("0", &camera, system).unwrap();
            format!("{} -i {}", live.options.join(" "), live.input)
        };
        assert_eq!(
            opened("linux", Camera::Number("2")),
            "-f v4l2 -i /dev/video2"
        );
        let named = Camera::Name("/dev/video7");
        assert_eq!(opened("linux", named), "-f v4l2 -i /dev/video7");
        assert_eq!(
            opened("macos", Camera::Name("FaceTime HD Camera")),
            "-f avfoundation -framerate 30 -i FaceTime HD Camera:none"
        );
        assert_eq!(
            opened("windows", Camera::Name("USB Camera")),
            "-f dshow -i video=USB Camera"
        );
        for (system, fix) in [("windows", "-list_devices"), ("freebsd", "a video file")] {
            let refused = Live::camera("0", &Camera::Number("0"), system).unwrap_err();
            assert!(refused.to_string().contains(fix), "{refused}");
        }
    }

    #[test]
    fn files_are_no_cameras() {
        for argument in ["photo.jpg", "", "0.png", "/dev/sda", "videos"] {
            assert_eq!(Live::parse(OsStr::new(argument)).unwrap(), None);
        }
        let filter = Live::parse(OsStr::new("lavfi:testsrc=size=8x8,hflip"))
            .unwrap()
            .unwrap();
        assert_eq!(filter.input, "testsrc=size=8x8,hflip");
        assert_eq!(filter.stem(), "testsrc");
    }
}
