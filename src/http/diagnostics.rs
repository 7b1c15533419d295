//! `/api/v1/diagnostics`: for whoever looks for the cause of a trouble and cannot log in.

use std::time::SystemTime;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::Context;
use super::status::{seconds, unix};
use crate::frame::MonotonicTime;
use crate::logging::{self, Line};

/// The document's fields are described in `docs/http.md`.
pub async fn diagnostics(context: web::Data<Context>) -> HttpResponse {
    let (report, journal) = futures::future::join(context.diagnostics.report(), context.diagnostics.journal()).await;
    let mut document = match report {
        Some(report) => json!(report),
        // A driver keeps everybody waiting; the log may tell more.
        None => json!({ "program": {}, "machine": null, "restarts": null }),
    };
    document["time"] = json!(unix(SystemTime::now()));
    document["monotonic_s"] = json!(seconds(MonotonicTime::now().since(MonotonicTime::from_nanos(0))));
    document["program"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["program"]["uptime_s"] = json!(seconds(context.board.health.uptime()));
    document["machine_log"] = json!(journal.as_deref());
    document["log"] = logging::recent().iter().map(line).collect();
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(document)
}

fn line(line: &Line) -> Value {
    json!({
        "time": seconds(line.unix),
        "monotonic_s": seconds(line.monotonic),
        "level": line.level.as_str().to_ascii_lowercase(),
        "text": line.text,
    })
}
