//! A camera that plays JPEG files: a folder in name order, or one `.mjpeg` file (JPEGs one after the other), in a loop.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::pace::Pace;
use super::rate::Rate;
use super::{BufferIndex, Camera, CameraError, CameraInfo};
use crate::frame::{MonotonicTime, PixelFormat, Plane, RawFrame, Size};
use crate::jpeg;

/// Frames are kept in memory up to this size, so that replaying costs no file access; a larger folder is read frame by
/// frame.
const MEMORY_MAX: u64 = 64 << 20;

/// See the module's text.
#[derive(Debug)]
pub struct Replay {
    info: CameraInfo,
    pace: Pace,
    frames: Frames,
    /// Counts frames played, from 0.
    played: u64,
    captured_at: MonotonicTime,
}

#[derive(Debug)]
enum Frames {
    Memory(Vec<Vec<u8>>),
    Files { paths: Vec<PathBuf>, current: Vec<u8> },
}

impl Replay {
    /// Opens a folder or a file.
    pub fn open(path: &Path, frame_rate: f64) -> Result<Self, CameraError> {
        let failed = |reason: String| CameraError::Replay { path: path.display().to_string(), reason };
        let metadata = std::fs::metadata(path).map_err(|error| failed(format!("cannot be opened: {error}")))?;
        let frames = if metadata.is_dir() {
            let paths = jpeg_files(path).map_err(|error| failed(format!("cannot be listed: {error}")))?;
            if paths.is_empty() {
                return Err(failed("the folder has no .jpg or .jpeg files".to_owned()));
            }
            let total: u64 = paths.iter().filter_map(|path| Some(std::fs::metadata(path).ok()?.len())).sum();
            if total <= MEMORY_MAX {
                let read = |path: &PathBuf| {
                    std::fs::read(path).map_err(|error| failed(format!("{}: {error}", path.display())))
                };
                Frames::Memory(paths.iter().map(read).collect::<Result<_, _>>()?)
            } else {
                Frames::Files { paths, current: Vec::new() }
            }
        } else {
            if metadata.len() > MEMORY_MAX {
                return Err(failed(format!(
                    "the file has {} MiB, more than {} MiB: split it into a folder of JPEG files",
                    metadata.len() >> 20,
                    MEMORY_MAX >> 20
                )));
            }
            if !metadata.is_file() {
                return Err(failed("neither a folder nor a regular file".to_owned()));
            }
            let bytes = std::fs::read(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
            Frames::Memory(split(&bytes).map_err(failed)?)
        };
        let mut replay = Self {
            info: CameraInfo {
                source: "replay",
                id: path.display().to_string(),
                model: "replay".to_owned(),
                pixel_format: PixelFormat::Mjpeg,
                size: Size { width: 0, height: 0 },
                stride: 0,
                frame_rate: Rate::exact(frame_rate),
                buffer_count: 1,
                dma_buf_offsets: None,
                turns: false,
                limited_range: false,
            },
            pace: Pace::new(frame_rate),
            frames,
            played: 0,
            captured_at: MonotonicTime::now(),
        };
        replay.load()?;
        // A first file that is damaged is not a reason to refuse the rest.
        if let Ok(info) = jpeg::inspect(replay.current()) {
            replay.info.size = info.size;
        }
        Ok(replay)
    }

    /// Makes the next frame the current one.
    fn load(&mut self) -> Result<(), CameraError> {
        if let Frames::Files { paths, current } = &mut self.frames {
            let path = &paths[(self.played % paths.len() as u64) as usize];
            *current = std::fs::read(path)
                .map_err(|error| CameraError::Replay { path: path.display().to_string(), reason: error.to_string() })?;
        }
        Ok(())
    }

    fn current(&self) -> &[u8] {
        match &self.frames {
            Frames::Memory(frames) => &frames[(self.played % frames.len() as u64) as usize],
            Frames::Files { current, .. } => current,
        }
    }
}

fn jpeg_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_jpeg = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("jpg") || extension.eq_ignore_ascii_case("jpeg"));
        if is_jpeg && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Cuts a file of JPEGs apart. Bytes between them (padding) are passed over; so is a last one that is cut off.
fn split(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(start) = memchr::memmem::find(&bytes[at..], b"\xff\xd8\xff") {
        at += start;
        match jpeg::length(&bytes[at..]) {
            Ok(length) => {
                frames.push(bytes[at..at + length].to_vec());
                at += length;
            }
            Err(error) => {
                log::warn!("a JPEG at byte {at} of the replayed file is left out: {error}");
                at += 2;
            }
        }
    }
    if frames.is_empty() { Err("the file has no complete JPEG in it".to_owned()) } else { Ok(frames) }
}

impl Camera for Replay {
    fn info(&self) -> &CameraInfo {
        &self.info
    }

    fn acquire(&mut self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Result<Option<BufferIndex>, CameraError> {
        let Some(due) = self.pace.wait(timeout, also) else { return Ok(None) };
        self.captured_at = due;
        self.load()?;
        Ok(Some(BufferIndex(0)))
    }

    fn view(&self, _: BufferIndex) -> RawFrame<'_> {
        let plane = Plane { data: self.current(), stride: 0, fd: None, offset: 0 };
        RawFrame::new(PixelFormat::Mjpeg, self.info.size, [plane], self.played, self.captured_at)
    }

    fn queue(&mut self, _: BufferIndex) -> Result<(), CameraError> {
        self.played += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
