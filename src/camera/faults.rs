//! Scripted faults around a synthetic camera, so that a test can provoke what hardware does on a bad day.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::control::{Control, Value};
use super::test_pattern::TestPattern;
use super::{BufferIndex, Camera, CameraError, CameraInfo};
use crate::config::Fault;
use crate::frame::{Plane, RawFrame, RawFrameMut, Size};
use crate::jpeg::Bound;

/// Where the script stands. It outlives the camera: a camera that disappeared stays away through attempts to open it.
#[derive(Debug, Default)]
pub struct Script {
    faults: Vec<Fault>,
    /// Frames delivered since the program started.
    pub frames: u64,
    opens: u32,
    gone_until: Option<Instant>,
    stalled_until: Option<Instant>,
    /// The test pattern's size, once a `size` fault has changed it.
    pub size: Option<Size>,
}

impl Script {
    /// A script of these faults.
    pub fn new(faults: Vec<Fault>) -> Self {
        Self { faults, ..Self::default() }
    }

    /// Call before opening a camera with pictures of `size` at `rate`: fails as scripted.
    pub fn opening(&mut self, id: &str, size: Size, rate: f64) -> Result<(), CameraError> {
        self.opens += 1;
        let opens = self.opens;
        for fault in &self.faults {
            match fault {
                Fault::OpenTakes { lasting } => std::thread::sleep(lasting.get()),
                Fault::Refuses { resolution, frame_rate }
                    if resolution.is_none_or(|refused| refused.size() == size)
                        && frame_rate.is_none_or(|refused| (refused.get() - rate).abs() < f64::EPSILON) =>
                {
                    let (wanted, reason) = (format!("{size} at {rate} fps"), "scripted fault".to_owned());
                    return Err(CameraError::Unsupported { id: id.to_owned(), wanted, reason });
                }
                _ => {}
            }
        }
        let refused = self.faults.iter().any(|fault| matches!(fault, Fault::OpenFails { times } if opens <= *times));
        if refused {
            let source = std::io::Error::from_raw_os_error(libc::EIO);
            return Err(CameraError::Refused { id: id.to_owned(), call: "open (scripted fault)", source });
        }
        if self.gone_until.is_some_and(|until| Instant::now() < until) {
            return Err(CameraError::NoCamera);
        }
        Ok(())
    }
}

/// A camera with a script.
pub struct Faulty {
    inner: Box<dyn Camera>,
    script: Rc<RefCell<Script>>,
    truncated: bool,
}

impl Faulty {
    /// Puts `inner` under the script.
    pub fn new(inner: Box<dyn Camera>, script: Rc<RefCell<Script>>) -> Self {
        Self { inner, script, truncated: false }
    }

    fn disconnected(&self) -> CameraError {
        CameraError::Unplugged { id: self.inner.info().id.clone() }
    }
}

impl Camera for Faulty {
    fn info(&self) -> &CameraInfo {
        self.inner.info()
    }

    fn bound(&self) -> Bound {
        self.inner.bound()
    }

    fn notes(&self) -> Vec<String> {
        self.inner.notes()
    }

    fn acquire(&mut self, timeout: Duration, also: Option<BorrowedFd<'_>>) -> Result<Option<BufferIndex>, CameraError> {
        let script = Rc::clone(&self.script);
        let mut script = script.borrow_mut();
        let script = &mut *script;
        if let Some(until) = script.stalled_until {
            let left = until.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(timeout));
            if left > timeout {
                return Ok(None);
            }
            script.stalled_until = None;
        }
        let Some(buffer) = self.inner.acquire(timeout, also)? else { return Ok(None) };
        script.frames += 1;
        let number = script.frames;
        self.truncated = false;
        let mut gone_until = None;
        for fault in &script.faults {
            match fault {
                Fault::Stall { at, lasting } if *at == number => {
                    script.stalled_until = Some(Instant::now() + lasting.get());
                    self.inner.queue(buffer)?;
                    return Ok(None);
                }
                Fault::Disappear { at, lasting } if *at == number => {
                    gone_until = Some(Instant::now() + lasting.get());
                }
                Fault::Truncate { at } if *at == number => self.truncated = true,
                Fault::Size { at, to } if *at == number => {
                    let rate = self.inner.info().frame_rate.delivered();
                    script.size = Some(to.size());
                    self.inner = Box::new(TestPattern::new(to.size(), rate, number));
                    return Ok(None);
                }
                Fault::Hang { at, lasting } if *at == number => std::thread::sleep(lasting.get()),
                _ => {}
            }
        }
        if gone_until.is_some() {
            script.gone_until = gone_until;
            return Err(self.disconnected());
        }
        Ok(Some(buffer))
    }

    fn view(&self, buffer: BufferIndex) -> RawFrame<'_> {
        let frame = self.inner.view(buffer);
        if !self.truncated {
            return frame;
        }
        let planes = (0..3)
            .filter_map(|index| frame.plane(index))
            .map(|plane| Plane { data: &plane.data[..plane.data.len() / 2], ..*plane });
        RawFrame::new(frame.pixel_format, frame.size, planes, frame.sequence, frame.captured_at)
    }

    fn view_mut(&mut self, buffer: BufferIndex) -> Option<RawFrameMut<'_>> {
        if self.truncated { None } else { self.inner.view_mut(buffer) }
    }

    fn queue(&mut self, buffer: BufferIndex) -> Result<(), CameraError> {
        self.inner.queue(buffer)
    }

    fn controls(&mut self) -> Result<Vec<Control>, CameraError> {
        self.inner.controls()
    }

    fn set_controls(&mut self, values: &[(Control, Value)]) -> Result<(), CameraError> {
        self.inner.set_controls(values)
    }
}

#[cfg(test)]
mod tests;
