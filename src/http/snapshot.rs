//! One picture.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;

use super::{TEXT, never_stored};
use crate::board::Board;
use crate::frame::MonotonicTime;
use crate::placeholder::Placeholder;
use crate::publish::multipart::UnixTime;
use crate::publish::{JpegFrame, PartPool};
use crate::shutdown::Shutdown;

/// Without `max_age_ms`; more where the camera's pictures are further apart.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(1);
/// How long a request waits for a picture, besides the time from one to the next.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits for a camera that has just started to settle. Some clients give up after a second.
const SETTLING: Duration = Duration::from_millis(950);

/// Answers with a frame that was captured no longer than `max_age` before now, waiting for one if need be. Where there is
/// only a placeholder, that is a failure, unless it is welcome.
pub async fn answer(
    board: &Board,
    mut shutdown: Shutdown,
    max_age: Option<Duration>,
    placeholder_welcome: bool,
) -> HttpResponse {
    // A slow camera's last picture may be the newest there is, and the next one takes its time.
    let period = board.frame_period();
    let max_age = max_age.unwrap_or(DEFAULT_MAX_AGE.max(period * 5 / 4));
    let asked = MonotonicTime::now();
    let _demand = board.hub.demand();
    let mut frames = board.hub.subscribe();
    let is_recent = |frame: &JpegFrame| asked.since(frame.captured_at) <= max_age;
    let is_good = |frame: &JpegFrame| is_recent(frame) && (frame.settled || frame.placeholder.is_some());
    let waiting = async {
        let good = frames.wait_for(|frame| frame.as_ref().is_some_and(is_good));
        if let Ok(frame) = actix_rt::time::timeout(SETTLING, good).await {
            return frame.ok().and_then(|frame| frame.clone());
        }
        // Better than none.
        let recent = frames.wait_for(|frame| frame.as_ref().is_some_and(is_recent)).await;
        recent.ok().and_then(|frame| frame.clone())
    };
    let mut frame = tokio::select! {
        frame = waiting => frame,
        () = actix_rt::time::sleep(PATIENCE + period) => None,
        () = shutdown.requested() => None,
    };
    let (state, _) = board.health.state();
    let reason = state.reason().cloned().unwrap_or_else(|| "the camera has sent no picture in time".into());
    if frame.is_none() && placeholder_welcome {
        // The capture thread, which usually draws them, is waiting for the camera.
        let size = board.settings().resolution.size();
        frame = Placeholder::default().frame(&mut PartPool::default(), &reason, size).ok();
    }
    let Some(frame) = frame else {
        let mut response = HttpResponse::ServiceUnavailable();
        never_stored(&mut response);
        return response.insert_header((header::RETRY_AFTER, "1")).content_type(TEXT).body(format!("{reason}\n"));
    };
    picture(board, &frame, placeholder_welcome)
}

/// The frame as an answer; a placeholder is a failure unless it is welcome.
fn picture(board: &Board, frame: &JpegFrame, placeholder_welcome: bool) -> HttpResponse {
    let is_failure = frame.placeholder.is_some() && !placeholder_welcome;
    let status = if is_failure { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut response = HttpResponse::build(status);
    never_stored(&mut response);
    response
        .content_type("image/jpeg")
        .insert_header(("X-Timestamp", UnixTime(frame.captured_at.to_system_time()).to_string()))
        .insert_header(("X-Sequence", frame.sequence.to_string()))
        .insert_header(("X-Age-Ms", frame.captured_at.elapsed().as_millis().to_string()));
    if let Some(reason) = &frame.placeholder {
        // A header holds visible ASCII only; the picture has the exact words.
        let reason: String = reason.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
        response.insert_header(("X-Reason", reason));
        if is_failure {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
    } else {
        board.metrics.snapshots.inc();
    }
    let mut response = response.body(frame.jpeg());
    response.head_mut().set_camel_case_headers(true);
    response
}
