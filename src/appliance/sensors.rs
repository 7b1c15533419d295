//! Image sensors on the camera's cable, as the device tree names them: the Pi's firmware looks there before Linux starts, and
//! adds the one that it finds. What libcamera does not know can so be named.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// Who makes them, as device trees spell it; what else is on the cable (lenses, bridges) has other makers.
const MAKERS: [&str; 2] = ["sony", "ovti"];
/// What the Pi's firmware finds and libcamera 0.7 has no way to drive: the sensor is fed with a network, over a bridge.
const UNSUPPORTED: [&str; 1] = ["imx500"];
/// A name in a device tree, and all others that a device has.
const COMPATIBLE_MAX: usize = 256;

/// A sensor that the device tree names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sensor {
    /// Such as `imx219`.
    pub name: String,
    /// Whether libcamera has any use for it.
    pub supported: bool,
    /// Whether a driver has it: none does where it does not answer.
    pub driver: bool,
}

/// Where the kernel lists what is on its I²C buses, or the folder that `PINHOLE_I2C` names.
pub fn folder() -> PathBuf {
    std::env::var_os("PINHOLE_I2C").map_or_else(|| "/sys/bus/i2c/devices".into(), PathBuf::from)
}

/// The sensors there, by name.
pub fn list(folder: &Path) -> Vec<Sensor> {
    let Ok(devices) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut sensors: Vec<_> = devices.flatten().filter_map(|device| sensor(&device.path())).collect();
    sensors.sort_by(|a, b| a.name.cmp(&b.name));
    sensors
}

fn sensor(device: &Path) -> Option<Sensor> {
    let compatible =
        std::fs::read(device.join("of_node/compatible")).ok().filter(|text| text.len() <= COMPATIBLE_MAX)?;
    // Several end in a NUL each, the most exact first.
    let first = compatible.split(|byte| *byte == 0).next()?;
    let (maker, name) = std::str::from_utf8(first).ok()?.split_once(',')?;
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
    (MAKERS.contains(&maker) && plain).then(|| Sensor {
        name: name.to_owned(),
        supported: !UNSUPPORTED.contains(&name),
        driver: device.join("driver").exists(),
    })
}

/// One that is there and cannot be used.
pub fn unsupported(folder: &Path) -> Option<String> {
    list(folder).into_iter().find(|sensor| !sensor.supported).map(|sensor| sensor.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(folder: &Path, place: &str, compatible: &[u8]) -> PathBuf {
        let device = folder.join(place);
        std::fs::create_dir_all(device.join("of_node")).unwrap();
        std::fs::write(device.join("of_node/compatible"), compatible).unwrap();
        device
    }

    #[test]
    fn sensors_are_those_of_the_device_tree() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(list(&folder.join("nonexistent")), []);
        std::fs::create_dir(folder.join("i2c-1")).unwrap();
        for (place, compatible) in [
            ("10-000c", &b"dongwoon,dw9817-vcm\0dongwoon,dw9807-vcm\0"[..]),
            ("10-0040", b"raspberrypi,rp2040-gpio-bridge\0"),
            ("10-0001", b""),
            ("10-0002", b"sony"),
            ("10-0003", b"sony,\0"),
            ("10-0004", b"sony,imx219\n\0"),
            ("10-0005", b"sony,imx\xff\0"),
            ("10-0006", &[b'x'; 5000]),
        ] {
            device(folder, place, compatible);
        }
        assert_eq!(list(folder), []);
        let bound = device(folder, "10-0010", b"sony,imx708\0");
        std::fs::create_dir(bound.join("driver")).unwrap();
        device(folder, "10-0036", b"ovti,ov5647\0");
        let sensor = |name: &str, driver| Sensor { name: name.to_owned(), supported: true, driver };
        assert_eq!(list(folder), [sensor("imx708", true), sensor("ov5647", false)]);
        assert_eq!(unsupported(folder), None);
        device(folder, "10-001a", b"sony,imx500\0");
        assert_eq!(list(folder)[0], Sensor { name: "imx500".to_owned(), supported: false, driver: false });
        assert_eq!(unsupported(folder).as_deref(), Some("imx500"));
    }
}
