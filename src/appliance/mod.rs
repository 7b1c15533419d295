//! What concerns the machine and not its picture: system files, diagnostics, the board's light, what is on the camera's cable.

pub mod diagnostics;
pub mod light;
pub mod sensors;
pub mod system;
