//! Finished pictures on their way to viewers: made into parts, put into the slot for the newest.

mod hub;
pub mod multipart;
mod part;

pub use hub::{Demand, Hub};
pub use part::{JpegFrame, PartPool};
