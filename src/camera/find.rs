//! Finds V4L2 devices: cameras, cameras that offer no supported format, and devices that may not be opened.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use v4l2r::ioctl::Capabilities;

use super::v4l2::{failed, is_taken, taken};
use super::{CameraError, CameraSummary, choose};
use crate::v4l2::{self, Device, QueueType, V4l2Error};

/// Drivers whose capture nodes are a part of a camera's pipeline, not a camera: libcamera drives them. (The Pi's ISP offers
/// YUYV, but waits for raw pictures from somebody.)
const NOT_CAMERAS: [&str; 5] = ["bcm2835-isp", "bcm2835-codec", "unicam", "rp1-cfe", "pispbe"];
/// Those of them whose nodes exist without a camera too.
const ALWAYS_THERE: [&str; 3] = ["bcm2835-isp", "bcm2835-codec", "pispbe"];

/// A device that is a camera.
pub struct Found {
    /// Open.
    pub device: Device,
    /// Where its pictures come from.
    pub queue: QueueType,
    /// What it is.
    pub summary: CameraSummary,
}

/// A device that may not be opened.
#[derive(Debug)]
pub struct Denied {
    path: PathBuf,
    /// The device's name, which anybody may read.
    name: Option<String>,
    source: io::Error,
}

/// All V4L2 devices that are or may be cameras.
#[derive(Default)]
pub struct Survey {
    /// Cameras that can be used.
    pub cameras: Vec<Found>,
    /// Cameras that offer no supported format.
    pub foreign: Vec<CameraSummary>,
    /// Devices that may be cameras.
    pub denied: Vec<Denied>,
}

enum Examined {
    Camera(Found),
    Foreign(CameraSummary),
    Other,
}

impl Survey {
    /// Surveys this machine.
    pub fn now() -> Self {
        let mut survey = Self::default();
        for path in v4l2::node_paths() {
            match examine(&path, survey.cameras.len()) {
                Ok(Examined::Camera(found)) => survey.cameras.push(found),
                Ok(Examined::Foreign(summary)) => survey.foreign.push(summary),
                Err(error) if is_denied(&error) => survey.denied.extend(Denied::of(&path, error.source)),
                Ok(Examined::Other) | Err(_) => {}
            }
        }
        survey
    }

    /// The cameras that can be used.
    pub fn summaries(&self) -> Vec<CameraSummary> {
        self.cameras.iter().map(|found| found.summary.clone()).collect()
    }

    /// What is there and cannot be used.
    pub fn problems(&self) -> impl Iterator<Item = CameraError> {
        self.foreign.iter().map(unsupported).chain(self.denied.iter().map(Denied::error))
    }

    /// The camera `id` means.
    pub fn choose(&self, id: &str) -> Result<usize, CameraError> {
        choose(&self.summaries(), id).map_err(|error| self.why_not(id).unwrap_or(error))
    }

    /// Why `id` means none of the usable cameras, if one of the other devices is the reason.
    pub fn why_not(&self, id: &str) -> Option<CameraError> {
        let id = id.trim();
        // A number is a place among those that can be used.
        let by_name = !id.is_empty() && id.parse::<usize>().is_err();
        let any = self.cameras.is_empty() && !by_name;
        let foreign = if by_name { choose(&self.foreign, id).ok() } else { None };
        let foreign = foreign.and_then(|at| self.foreign.get(at)).or_else(|| self.foreign.first().filter(|_| any));
        if let Some(summary) = foreign {
            return Some(unsupported(summary));
        }
        // Where none can be seen, the one that is meant is most likely among them.
        let is_meant = |denied: &&Denied| self.cameras.is_empty() || (by_name && denied.fits(id));
        self.denied.iter().find(is_meant).map(Denied::error)
    }
}

/// The camera at a path.
pub fn at(path: &Path) -> Result<Found, CameraError> {
    let id = path.display().to_string();
    match examine(path, 0) {
        Ok(Examined::Camera(found)) => Ok(found),
        Ok(Examined::Foreign(summary)) => Err(unsupported(&summary)),
        Ok(Examined::Other) => {
            let reason = "it is not a V4L2 capture device".to_owned();
            Err(CameraError::Unsupported { id, wanted: "video".to_owned(), reason })
        }
        Err(error) if error.errno() == libc::ENOENT => {
            let survey = Survey::now();
            let present: Vec<String> = survey.summaries().iter().map(ToString::to_string).collect();
            if present.is_empty() {
                return Err(survey.why_not("").unwrap_or(CameraError::NoCamera));
            }
            Err(CameraError::NotFound { wanted: id, present: present.join(", ") })
        }
        Err(error) if is_denied(&error) => {
            Err(Denied { path: path.to_owned(), name: name(path), source: error.source }.error())
        }
        Err(error) => Err(failed(&id, error)),
    }
}

fn is_denied(error: &V4l2Error) -> bool {
    matches!(error.errno(), libc::EACCES | libc::EPERM)
}

fn unsupported(summary: &CameraSummary) -> CameraError {
    CameraError::Unsupported {
        id: format!("{} ({})", summary.id, summary.model),
        wanted: "pictures".to_owned(),
        reason: format!("it offers only {}; taken are {}", summary.formats, taken()),
    }
}

fn examine(path: &Path, index: usize) -> Result<Examined, V4l2Error> {
    let device = Device::open(path)?;
    let capability = device.capability()?;
    let capabilities = capability.device_caps();
    let queue = if capabilities.contains(Capabilities::VIDEO_CAPTURE) {
        QueueType::VideoCapture
    } else if capabilities.contains(Capabilities::VIDEO_CAPTURE_MPLANE) {
        QueueType::VideoCaptureMplane
    } else {
        return Ok(Examined::Other);
    };
    if !capabilities.contains(Capabilities::STREAMING) || NOT_CAMERAS.contains(&capability.driver.as_str()) {
        return Ok(Examined::Other);
    }
    let offered = device.formats(queue);
    if offered.is_empty() {
        return Ok(Examined::Other);
    }
    let formats: Vec<String> = offered.iter().map(ToString::to_string).collect();
    let id = path.display().to_string();
    let model = if capability.card.is_empty() { id.clone() } else { capability.card };
    let summary = CameraSummary { index, id, model, formats: formats.join("; ") };
    if offered.iter().any(|format| is_taken(*format)) {
        Ok(Examined::Camera(Found { device, queue, summary }))
    } else {
        Ok(Examined::Foreign(summary))
    }
}

/// What the kernel calls a device, without opening it.
fn name(path: &Path) -> Option<String> {
    let node = path.file_name()?;
    let name = std::fs::read_to_string(Path::new("/sys/class/video4linux").join(node).join("name")).ok()?;
    Some(name.trim().to_owned())
}

impl Denied {
    /// `None` for one that is no camera.
    fn of(path: &Path, source: io::Error) -> Option<Self> {
        let name = name(path);
        let is_other = name.as_ref().is_some_and(|name| ALWAYS_THERE.iter().any(|driver| name.starts_with(driver)));
        (!is_other).then(|| Self { path: path.to_owned(), name, source })
    }

    fn fits(&self, id: &str) -> bool {
        let holds = |text: &str| text.to_lowercase().contains(&id.to_lowercase());
        holds(&self.path.to_string_lossy()) || self.name.as_deref().is_some_and(holds)
    }

    /// The error, with the remedy.
    pub fn error(&self) -> CameraError {
        CameraError::NotPermitted { what: self.to_string(), remedy: self.remedy() }
    }

    fn remedy(&self) -> String {
        if self.source.raw_os_error() == Some(libc::EPERM) {
            return "the service's own DeviceAllow= and PrivateDevices= keep it out".to_owned();
        }
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        // A device that has gone meanwhile belonged to the group that cameras belong to.
        match std::fs::metadata(&self.path) {
            Ok(metadata) => remedy(metadata.mode(), metadata.gid(), &groups),
            Err(_) => join_group("video"),
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(name) = &self.name {
            write!(f, " ({name})")?;
        }
        write!(f, " may not be opened: {}", self.source)
    }
}

/// The remedy for a user who may not open a device of this mode and group.
fn remedy(mode: u32, gid: u32, groups: &str) -> String {
    let fields = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let name = fields.into_iter().find_map(|fields| match fields.as_slice() {
        [name, _, number, ..] if number.parse() == Ok(gid) => Some((*name).to_owned()),
        _ => None,
    });
    if gid == 0 || mode & 0o060 != 0o060 {
        return format!(
            "its mode is {:03o} and its group {}, where udev gives cameras to group video (mode 660): check that udev runs",
            mode & 0o777,
            name.unwrap_or_else(|| gid.to_string())
        );
    }
    join_group(&name.unwrap_or_else(|| gid.to_string()))
}

fn join_group(group: &str) -> String {
    format!("it belongs to group {group}: run `sudo usermod -aG {group} $USER` and log in again")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "root:x:0:\nvideo:x:44:somebody\nnonsense\ncamera:x:1044:\n";

    #[test]
    fn the_group_to_join_is_the_devices_own() {
        for (mode, gid, words) in [
            (0o20660, 44, "it belongs to group video: run `sudo usermod -aG video $USER` and log in again"),
            (0o20660, 1044, "it belongs to group camera: run `sudo usermod -aG camera $USER` and log in again"),
            (0o20660, 7, "it belongs to group 7: run `sudo usermod -aG 7 $USER` and log in again"),
            (0o20600, 0, "its mode is 600 and its group root, where"),
            (0o20660, 0, "its mode is 660 and its group root, where"),
            (0o20640, 44, "its mode is 640 and its group video, where"),
        ] {
            let text = remedy(mode, gid, GROUPS);
            assert!(text.starts_with(words), "{text}");
        }
    }

    fn denied(path: &str, name: &str) -> Denied {
        let source = io::Error::from_raw_os_error(libc::EACCES);
        Denied { path: path.into(), name: Some(name.to_owned()), source }
    }

    #[test]
    fn what_is_there_but_of_no_use_is_named() {
        let summary = CameraSummary {
            index: 0,
            id: "/dev/video4".to_owned(),
            model: "Doorbell".to_owned(),
            formats: "H264".to_owned(),
        };
        let survey = Survey {
            cameras: Vec::new(),
            foreign: vec![summary],
            denied: vec![denied("/dev/video9990", "Webcam C270"), denied("/dev/video9991", "Microscope")],
        };
        let said = |id: &str| survey.choose(id).unwrap_err().to_string();
        assert!(
            said("").starts_with(
                "camera /dev/video4 (Doorbell) cannot deliver pictures: it offers only H264; taken are MJPG"
            )
        );
        assert!(said("doorbell").contains("Doorbell"), "{}", said("doorbell"));
        assert!(said("C270").starts_with("camera /dev/video9990 (Webcam C270) may not be opened: Permission denied"));
        assert!(said("C270").contains("sudo usermod -aG video $USER"), "{}", said("C270"));
        let survey = Survey { denied: vec![denied("/dev/video9991", "Microscope")], ..Survey::default() };
        for id in ["", "0", "imx219", "microscope"] {
            let said = survey.choose(id).unwrap_err().to_string();
            assert!(said.starts_with("camera /dev/video9991 (Microscope) may not be opened"), "{id}: {said}");
        }
        assert!(matches!(Survey::default().choose(""), Err(CameraError::NoCamera)));
    }
}
