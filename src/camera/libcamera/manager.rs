//! libcamera's manager, and the cameras it knows.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ::libcamera::camera::{self as lc, ActiveCamera};
use ::libcamera::camera_manager::{CameraList, CameraManager};
use ::libcamera::properties;

use super::failed;
use super::negotiation::offered_formats;
use crate::camera::{CameraError, CameraSummary, choose};

/// The version of the libcamera in use, such as `v0.7.1`.
pub fn version() -> String {
    ::libcamera::version::runtime_version().to_owned()
}

/// The cameras present.
pub fn list() -> Result<Vec<CameraSummary>, CameraError> {
    let manager = Manager::get()?;
    let cameras = manager.cameras();
    Ok(summaries(&cameras, true))
}

fn summaries(cameras: &CameraList<'static>, with_formats: bool) -> Vec<CameraSummary> {
    (0..cameras.len())
        .filter_map(|index| {
            let camera = cameras.get(index)?;
            Some(CameraSummary {
                index,
                id: camera.id().to_owned(),
                model: model(&camera),
                formats: if with_formats { offered_formats(&camera) } else { String::new() },
            })
        })
        .collect()
}

fn model(camera: &lc::Camera<'_>) -> String {
    camera.properties().get::<properties::Model>().map_or_else(|_| camera.id().to_owned(), |model| model.0)
}

/// libcamera's manager, shared by all that use libcamera in this process at the time.
///
/// Only one may exist at a time (a second one aborts the process), and only a new one is sure to find a camera that
/// appeared later: without udev's monitor libcamera never looks again. So it lives as long as anyone uses it, and each
/// opening after that starts from a fresh enumeration.
pub(super) struct Manager(());

static MANAGER: Mutex<Shared> = Mutex::new(Shared { users: 0, manager: None });

struct Shared {
    users: usize,
    manager: Option<SendManager>,
}

struct SendManager(CameraManager);

// SAFETY: libcamera's manager is not tied to a thread (its work runs on a thread of its own); what it does ask for is
// that calls do not overlap, and all of ours are made under MANAGER's lock.
unsafe impl Send for SendManager {}

fn shared() -> MutexGuard<'static, Shared> {
    MANAGER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Manager {
    /// A share of the manager, which is started where there is none.
    pub(super) fn get() -> Result<Self, CameraError> {
        let mut shared = shared();
        if shared.manager.is_none() {
            let manager = CameraManager::new().map_err(|source| {
                // No camera's own error: what it says of a device is of all that libcamera looks for.
                CameraError::Refused { id: "(any)".to_owned(), call: "CameraManager::start", source }
            })?;
            shared.manager = Some(SendManager(manager));
        }
        shared.users += 1;
        Ok(Self(()))
    }

    /// The list holds references to cameras, which must be gone before the manager is. The crate's types do not say so
    /// (their lifetime is free): whoever keeps one keeps a [`Manager`] longer.
    fn cameras(&self) -> CameraList<'static> {
        let Self(()) = self;
        match &shared().manager {
            Some(SendManager(manager)) => manager.cameras(),
            None => unreachable!("the shared manager lives as long as any Manager"),
        }
    }

    /// Acquires the camera that `id` means, for this process alone: libcamera keeps other processes out, but between threads
    /// it checks and takes in two steps, so two could get the same camera (tried: it aborts the process).
    pub(super) fn acquire(&self, id: &str) -> Result<(ActiveCamera<'static>, CameraSummary), CameraError> {
        let cameras = self.cameras();
        let found = summaries(&cameras, false);
        let chosen = choose(&found, id)?;
        let (Some(camera), Some(summary)) = (cameras.get(chosen), found.into_iter().nth(chosen)) else {
            return Err(CameraError::NoCamera);
        };
        let _one_at_a_time = shared();
        let active = camera.acquire().map_err(failed(&summary.id, "Camera::acquire"))?;
        Ok((active, summary))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let mut shared = shared();
        shared.users -= 1;
        if shared.users == 0 {
            // Under the lock, for a new one must not start before this one is gone.
            shared.manager = None;
        }
    }
}
