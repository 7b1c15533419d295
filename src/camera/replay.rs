//! A camera that plays JPEG files: a folder in name order, or one `.mjpeg` file (JPEGs one after the other), in a loop.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::pace::Pace;
use super::rate::Rate;
use super::{BufferIndex, Camera, CameraError, CameraInfo};
use crate::frame::{MonotonicTime, PixelFormat, Plane, RawFrame, Size};
use crate::jpeg::{self, Bound, JpegError};

/// How many pictures are read to find how large they are, how many are tried for that, and how long that may take: opening a
/// camera must return long before the watchdog bites.
const LOOKED_AT: usize = 10;
const TRIED: usize = 20;
const LOOKING_MAX: Duration = Duration::from_secs(3);
/// Headers without a picture are walked along for so many times the file's length in all: what is made of nothing else would
/// take that squared.
const WALKED_MAX: u64 = 2;
/// Frames are kept in memory up to this size, so that replaying costs no file access; a larger folder is read frame by
/// frame.
const MEMORY_MAX: u64 = 64 << 20;

/// Of pictures none of which can be read.
const NO_SIZE: Size = Size { width: 0, height: 0 };

/// See the module's text.
#[derive(Debug)]
pub struct Replay {
    info: CameraInfo,
    bound: Bound,
    /// `camera.resolution`, which changes nothing here.
    asked: Size,
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
    /// Opens a folder or a file. The pictures have the size they have: `asked` is one they may have in any case.
    pub fn open(path: &Path, frame_rate: f64, asked: Size) -> Result<Self, CameraError> {
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
                    read(path, MEMORY_MAX).map_err(|error| failed(format!("{}: {error}", path.display())))
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
            let bytes = read(path, MEMORY_MAX).map_err(|error| failed(format!("cannot be read: {error}")))?;
            Frames::Memory(split(&bytes).map_err(failed)?)
        };
        let mut replay = Self {
            info: CameraInfo {
                source: "replay",
                id: path.display().to_string(),
                model: "replay".to_owned(),
                pixel_format: PixelFormat::Mjpeg,
                size: NO_SIZE,
                stride: 0,
                frame_rate: Rate::exact(frame_rate),
                buffer_count: 1,
                dma_buf_offsets: None,
                turns: false,
                limited_range: false,
            },
            bound: Bound::of(asked),
            asked,
            pace: Pace::new(frame_rate),
            frames,
            played: 0,
            captured_at: MonotonicTime::now(),
        };
        // The first file must be there; a damaged one is not a reason to refuse the rest.
        replay.load()?;
        replay.look(LOOKING_MAX);
        Ok(replay)
    }

    /// Assumes that no picture is larger than the largest of the first ones. Reads no further one after `most`.
    fn look(&mut self, most: Duration) {
        let begin = Instant::now();
        let (mut largest, mut readable) = (NO_SIZE, 0);
        for number in 0..TRIED.min(self.frames.count()) {
            // One that cannot be read is told of when its turn comes.
            let size = match &self.frames {
                Frames::Memory(frames) => size_of(&frames[number], largest),
                Frames::Files { paths, .. } => {
                    read(&paths[number], MEMORY_MAX).ok().and_then(|data| size_of(&data, largest))
                }
            };
            if let Some(size) = size {
                readable += 1;
                if Bound::of(size).pixels() > Bound::of(largest).pixels() {
                    largest = size;
                }
            }
            if readable == LOOKED_AT || begin.elapsed() >= most {
                break;
            }
        }
        self.info.size = largest;
        self.bound = self.bound.or(Bound::of(largest));
    }

    /// Makes the next frame the current one.
    fn load(&mut self) -> Result<(), CameraError> {
        if let Frames::Files { paths, current } = &mut self.frames {
            let path = &paths[(self.played % paths.len() as u64) as usize];
            // What follows the most that a picture can need is not read.
            *current = read(path, self.bound.bytes())
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

impl Frames {
    fn count(&self) -> usize {
        match self {
            Self::Memory(frames) => frames.len(),
            Self::Files { paths, .. } => paths.len(),
        }
    }
}

/// A file's first `most` bytes.
fn read(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The size of a JPEG that can be read. One that says it is larger than those `so_far` must show that it is: a flipped
/// bit is easily a size.
fn size_of(data: &[u8], so_far: Size) -> Option<Size> {
    let info = jpeg::headers(data).ok()?;
    let end = match info.end(data) {
        Ok(end) => end,
        // A camera may leave it out of all of them.
        Err(JpegError::NoEnd { length }) => length,
        Err(_) => return None,
    };
    let is_smaller = Bound::of(so_far).check(info.size).is_ok();
    (is_smaller || jpeg::has_all_of_its_picture(&data[..end], &info)).then_some(info.size)
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

/// Cuts a file of JPEGs apart. Bytes between them (padding) are passed over; so is one that is cut off, unless they all
/// are: then what they lack is their end of image.
fn split(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let (mut frames, mut endless) = (Vec::new(), Vec::new());
    let mut left_out = None;
    let (mut at, mut walked) = (0, 0);
    while let Some(start) = memchr::memmem::find(&bytes[at..], b"\xff\xd8\xff") {
        at += start;
        match jpeg::length_walked(&bytes[at..], &mut walked) {
            Ok(length) => {
                frames.push(bytes[at..at + length].to_vec());
                at += length;
            }
            Err(error) => {
                if walked > WALKED_MAX * bytes.len() as u64 {
                    return Err("the file has headers of JPEGs again and again without their pictures: it is damaged"
                        .to_owned());
                }
                left_out = left_out.or(Some((at, error)));
                let JpegError::NoEnd { length } = error else {
                    at += 2;
                    continue;
                };
                if frames.is_empty() {
                    endless.push(bytes[at..at + length].to_vec());
                }
                at += length;
            }
        }
    }
    if frames.is_empty() {
        frames = endless;
    } else if let Some((at, error)) = left_out {
        log::warn!("damaged JPEGs in the replayed file are left out, the first at byte {at}: {error}");
    }
    if frames.is_empty() { Err("the file has no complete JPEG in it".to_owned()) } else { Ok(frames) }
}

impl Camera for Replay {
    fn info(&self) -> &CameraInfo {
        &self.info
    }

    fn bound(&self) -> Bound {
        self.bound
    }

    fn notes(&self) -> Vec<String> {
        let Self { asked, info: CameraInfo { size, .. }, .. } = self;
        if size == asked || *size == NO_SIZE {
            return Vec::new();
        }
        vec![format!("camera.resolution {asked} has no effect: replay shows its files as they are, here {size}")]
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
