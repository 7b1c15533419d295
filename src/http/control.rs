//! What changes things while the program runs: the camera's controls, and the settings.

#![allow(clippy::result_large_err, reason = "the error of a handler's step is the answer, and moved once")]

use std::fmt::Write as _;

use actix_web::http::header;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value as Json, json};
use tokio::sync::oneshot;

use super::Context;
use crate::camera::control::{Control, Value};
use crate::settings::{Change, ChangeError, Command, Settings};

/// How long the capture thread may take to answer: a camera that is stopped has to start first.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(8);
/// Said with every answer, as it is easily forgotten.
const LASTS: &str = "until restart";

/// `/api/v1/controls`.
pub async fn controls(context: web::Data<Context>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let mut names: Option<Vec<String>> = None;
    let result = if request.method() == Method::PATCH {
        let values = match parse(&body) {
            Ok(values) => values,
            Err(answer) => return answer,
        };
        // What goes back to its default needs no line.
        names = Some(values.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect());
        ask(&context, |answer| Command::SetControls(values, answer)).await
    } else if request.method() == Method::DELETE {
        ask(&context, Command::ResetControls).await
    } else {
        ask(&context, Command::GetControls).await
    };
    match result {
        Err(answer) => answer,
        Ok(controls) => {
            let mut document = json!({
                "controls": controls.iter().map(Control::to_json).collect::<Vec<_>>(),
                "lasts": LASTS,
            });
            if let Some(names) = names.filter(|names| !names.is_empty()) {
                document["to_keep"] = json!(to_keep(&controls, &names));
            }
            answer(StatusCode::OK, &document)
        }
    }
}

/// `/api/v1/settings`.
pub async fn settings(context: web::Data<Context>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    if request.method() != Method::PATCH {
        return answer(StatusCode::OK, &document(&context.shared.settings()));
    }
    let change = match parse(&body).map(Change::from_json) {
        Ok(Ok(change)) => change,
        Ok(Err(reason)) => return failure(StatusCode::UNPROCESSABLE_ENTITY, &reason),
        Err(answer) => return answer,
    };
    match ask(&context, |answer| Command::Change(change, answer)).await {
        Err(answer) => answer,
        Ok(settings) => {
            let mut document = document(&settings);
            if let Some(pipeline) = context.shared.pipeline() {
                // A camera may deliver another size or rate than it was asked for.
                document["camera"] = json!({
                    "width": pipeline.camera.size.width,
                    "height": pipeline.camera.size.height,
                    "frame_rate": super::status::granted(pipeline.camera.frame_rate),
                });
            }
            document["to_keep"] = json!(format!(
                "camera:\n  resolution: {}\n  frame_rate: {}\n  orientation: {}\nencoder:\n  quality: {}\n",
                settings.resolution.size(),
                settings.frame_rate.get(),
                settings.orientation,
                settings.quality.get(),
            ));
            answer(StatusCode::OK, &document)
        }
    }
}

fn document(settings: &Settings) -> Json {
    let mut document = json!(settings);
    document["lasts"] = json!(LASTS);
    document
}

/// What to write into pinhole.yaml for the controls just set.
fn to_keep(controls: &[Control], names: &[String]) -> String {
    let mut text = "camera:\n  controls:\n".to_owned();
    for name in names {
        let control = crate::camera::control::find(controls, name);
        if let Some((control, value)) = control.and_then(|control| Some((control, control.value.as_ref()?))) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "    {}: {}", json!(control.name), value.to_json());
        }
    }
    text
}

/// Asks the capture thread, with the camera running.
async fn ask<T>(
    context: &Context,
    command: impl FnOnce(oneshot::Sender<Result<T, ChangeError>>) -> Command,
) -> Result<T, HttpResponse> {
    // First the demand: a stopped camera starts, and the question finds it open.
    let _demand = context.shared.hub.demand();
    let (sender, receiver) = oneshot::channel();
    context.shared.mailbox.send(command(sender));
    let mut shutdown = context.shutdown.clone();
    let result = tokio::select! {
        result = receiver => result.ok(),
        () = actix_rt::time::sleep(PATIENCE) => None,
        () = shutdown.requested() => None,
    };
    match result {
        Some(Ok(value)) => Ok(value),
        Some(Err(ChangeError::Refused(refusal))) => {
            let bound = |bound: &Option<Value>| bound.as_ref().map_or(Json::Null, Value::to_json);
            Err(answer(
                StatusCode::UNPROCESSABLE_ENTITY,
                &json!({
                    "error": refusal.reason,
                    "control": refusal.control,
                    "value": refusal.value,
                    "min": bound(&refusal.min),
                    "max": bound(&refusal.max),
                }),
            ))
        }
        Some(Err(ChangeError::Failed(reason))) => Err(failure(StatusCode::UNPROCESSABLE_ENTITY, &reason)),
        Some(Err(ChangeError::NoCamera(reason))) => {
            let why = reason.strip_prefix("no camera found: ").unwrap_or(&reason);
            Err(failure(StatusCode::SERVICE_UNAVAILABLE, &format!("there is no camera: {why}")))
        }
        None => Err(failure(StatusCode::SERVICE_UNAVAILABLE, "the camera does not answer")),
    }
}

/// The body as a JSON object.
fn parse(body: &[u8]) -> Result<Map<String, Json>, HttpResponse> {
    serde_json::from_slice(body).map_err(|error| {
        let (status, what) = match error.classify() {
            serde_json::error::Category::Data => (StatusCode::UNPROCESSABLE_ENTITY, "the body must be a JSON object"),
            _ => (StatusCode::BAD_REQUEST, "the body is not JSON"),
        };
        failure(status, &format!("{what}: {error}"))
    })
}

fn failure(status: StatusCode, reason: &str) -> HttpResponse {
    answer(status, &json!({ "error": reason }))
}

fn answer(status: StatusCode, document: &Json) -> HttpResponse {
    HttpResponse::build(status).insert_header((header::CACHE_CONTROL, "no-store")).json(document)
}
