//! What programs ask: the status document, the health check, metrics.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::viewers::ViewerStats;
use super::{Context, TEXT};
use crate::board::Pipeline;
use crate::board::settings::Settings;
use crate::camera::Cause;
use crate::camera::rate::Rate;

/// Seconds with three decimals are all that is known.
pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Measured frames per second: one decimal will do, but not for one frame in 20 s.
fn rate(per_second: f64) -> f64 {
    let digits = if per_second < 1.0 { 1000.0 } else { 10.0 };
    (per_second * digits).round() / digits
}

/// The rate a camera has granted, such as 29.97.
pub(super) fn granted(rate: Rate) -> Option<f64> {
    rate.granted().map(|rate| (rate * 1000.0).round() / 1000.0)
}

pub(super) fn unix(time: SystemTime) -> f64 {
    seconds(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// `/api/v1/status`. The document's fields are described in `docs/http.md`.
pub async fn status(context: web::Data<Context>) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(document(&context))
}

fn document(context: &Context) -> Value {
    let board = &context.board;
    let metrics = &board.metrics;
    let (state, since) = board.health.state();
    let pipeline = board.pipeline();
    let settings = board.settings();
    let viewers = context.viewers.list();
    json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "libcamera": crate::camera::libcamera_version(),
        "uptime_s": seconds(board.health.uptime()),
        "time": unix(SystemTime::now()),
        "health": {
            "state": state.name(),
            "reason": state.reason().map(|reason| &**reason),
            "cause": state.cause().map(Cause::name),
            "since_s": seconds(since),
        },
        "camera": pipeline.as_ref().map(camera),
        "encoder": pipeline.as_ref().map(|pipeline| encoder(pipeline, &settings)),
        "settings": settings,
        "rates": {
            "captured_fps": rate(metrics.captured.rate()),
            "encoded_fps": rate(metrics.encoded.rate()),
            "sent_fps": rate(metrics.sent.rate()),
        },
        "frame": board.hub.newest().map(|frame| json!({
            "sequence": frame.sequence,
            "bytes": frame.jpeg().len(),
            "width": frame.size.width,
            "height": frame.size.height,
            "captured_at": unix(frame.captured_at.to_system_time()),
            "age_ms": seconds(frame.captured_at.elapsed() * 1000),
            "placeholder": frame.placeholder.is_some(),
        })),
        "frames": {
            "captured": metrics.captured.total(),
            "encoded": metrics.encoded.total(),
            "dropped": metrics.dropped.get(),
            "sent": metrics.sent.total(),
            "skipped": metrics.skipped.get(),
        },
        "viewers": {
            "count": viewers.len(),
            "max": context.viewers.max(),
            "list": viewers.iter().map(|stats| viewer(stats)).collect::<Vec<_>>(),
        },
        "config": {
            "problems": context.problems,
        },
    })
}

fn camera(pipeline: &Pipeline) -> Value {
    let camera = &pipeline.camera;
    json!({
        "source": camera.source,
        "id": camera.id,
        "model": camera.model,
        "pixel_format": camera.pixel_format.name(),
        "width": camera.size.width,
        "height": camera.size.height,
        "stride": camera.stride,
        "frame_rate": granted(camera.frame_rate),
        "buffers": camera.buffer_count,
        "running": pipeline.running,
        "turned_by": pipeline.turned_by,
        "notes": pipeline.notes,
    })
}

fn encoder(pipeline: &Pipeline, settings: &Settings) -> Value {
    json!({
        "kind": pipeline.encoder,
        "quality": settings.quality,
        "reason": pipeline.encoder_reason,
        "device": pipeline.hardware.as_ref().map(|(device, _)| device),
        "memory": pipeline.hardware.as_ref().map(|(_, memory)| memory),
        "rate_limit": pipeline.rate_limit.map(rate),
        "overlay": pipeline.overlay,
    })
}

fn viewer(stats: &ViewerStats) -> Value {
    json!({
        "id": stats.id,
        // Of whom a proxy tells, it tells no port.
        "peer": stats.peer.map(|peer| if peer.port() == 0 { peer.ip().to_string() } else { peer.to_string() }),
        "connected_s": seconds(stats.connected.elapsed()),
        "frames_sent": stats.sent.load(Ordering::Relaxed),
        "frames_skipped": stats.skipped.load(Ordering::Relaxed),
        "fps_limit": stats.fps,
    })
}

/// `/healthz`: 200 while nobody has to look.
pub async fn healthz(context: web::Data<Context>) -> HttpResponse {
    let (state, _) = context.board.health.state();
    let mut response = if state.is_healthy() { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.insert_header((header::CACHE_CONTROL, "no-store")).content_type(TEXT);
    match state.reason() {
        Some(reason) => response.body(format!("{}: {reason}\n", state.name())),
        None => response.body(format!("{}\n", state.name())),
    }
}

/// `/metrics`.
pub async fn metrics(context: web::Data<Context>, request: HttpRequest) -> HttpResponse {
    let (state, _) = context.board.health.state();
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let metrics = &context.board.metrics;
    let cause = state.cause().map(Cause::name);
    let (content_type, text) = if accepts.contains("application/openmetrics-text") {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.open_metrics(state.name(), cause))
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", metrics.text(state.name(), cause))
    };
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).content_type(content_type).body(text)
}
