//! What it tells a test.

use std::path::Path;

use serde_json::Value;

use crate::client::{self, Encoder};
use crate::{aborts, passes, sys};

pub const CASES: &[crate::Case] = &[("report", report), ("report violation", violation)];

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn tells_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    passes("report", &format!("busy=open:1;truncated@2;report={}", path.display()));
    let report = read(&path);
    assert_eq!(report["opens"]["/dev/video31"], 1);
    assert_eq!(report["opens_refused"]["/dev/video31"], 1);
    assert_eq!(report["closes"], 1);
    assert_eq!(report["formats"][1]["fourcc"], "YU12");
    assert_eq!(report["formats"][1]["stride"], 320);
    assert_eq!((&report["memory"]["output"], &report["memory"]["capture"]), (&"mmap".into(), &"mmap".into()));
    assert_eq!((&report["encodes_started"], &report["encodes_done"]), (&3.into(), &3.into()));
    assert_eq!(report["max_queued"]["capture"], 2);
    assert_eq!(report["max_queued"]["output"], 1);
    assert_eq!(report["output_bytes"], 320 * 240 * 3 / 2);
    assert_eq!(report["controls"][0]["name"], "Compression Quality");
    assert_eq!((&report["controls"][0]["value"], &report["controls"][0]["encodes"]), (&60.into(), &1.into()));
    assert_eq!(report["ioctls"]["QBUF"], 2 + 2 * 3);
    assert_eq!(report["faults"]["truncated"], 1);
    assert_eq!(report["violation"], Value::Null);
}

fn report() {
    assert_eq!(client::open("/dev/video31", libc::O_RDWR).err(), Some(libc::EBUSY));
    let mut encoder = Encoder::streaming();
    encoder.encode(1);
    encoder.device.set(sys::CID_JPEG_COMPRESSION_QUALITY, 60).unwrap();
    encoder.encode(2);
    encoder.encode(3);
    encoder.device.close();
}

#[test]
fn tells_which_rule_was_broken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    aborts("report violation", &format!("report={}", path.display()), "STREAMON before REQBUFS");
    assert!(read(&path)["violation"].as_str().unwrap().contains("STREAMON before REQBUFS"));
}

fn violation() {
    let _ = client::open("/dev/video31", libc::O_RDWR).unwrap().stream(true, client::OUTPUT);
}
