//! The body of a stream's response.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use super::broadcaster::Broadcaster;
use super::flow::State;
use super::viewer::Viewer;

/// The body of a stream's response: silent, while the viewer writes for itself.
#[derive(Debug)]
pub struct StreamBody {
    broadcaster: Rc<Broadcaster>,
    viewer: Rc<Viewer>,
    attached: bool,
}

impl StreamBody {
    /// Of a viewer that begins when the head is with the kernel.
    pub fn new(broadcaster: Rc<Broadcaster>, viewer: Rc<Viewer>) -> Self {
        Self { broadcaster, viewer, attached: false }
    }
}

/// Tells actix-web to drop the connection at once, whatever requests are still queued on it.
#[derive(Debug, thiserror::Error)]
#[error("the viewer is gone")]
pub struct ViewerGone;

impl MessageBody for StreamBody {
    type Error = ViewerGone;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if let State::Closed { is_gone } = self.viewer.flow().state() {
            return Poll::Ready(is_gone.then_some(Err(ViewerGone)));
        }
        // Asked for bytes: the head is with the kernel, and the connection is the viewer's.
        self.viewer.note_waker(cx.waker());
        if !self.attached {
            self.attached = true;
            self.broadcaster.attach(&self.viewer);
        }
        Poll::Pending
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.broadcaster.let_go(&self.viewer);
    }
}
