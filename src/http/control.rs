//! What changes things while the program runs: the camera's controls, and the settings.

#![allow(clippy::result_large_err, reason = "the error of a handler's step is the answer, and moved once")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use actix_web::http::header;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value as Json, json};

use super::{Context, body};
use crate::board::health::State;
use crate::board::mailbox::{Answer, ControlChange};
use crate::board::settings::{Change, ChangeError, Settings};
use crate::board::{Board, Controls};
use crate::camera::control::{Control, Value};

/// How long a change may take on a camera that answers: where others' are tried first, and one by one, it is opened often.
const CHANGE_PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether the camera still answers.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long whoever reads controls waits for a camera to start.
const PATIENCE: Duration = Duration::from_secs(8);
/// Without an answer from a running camera in this time, what is known of its controls is told.
const READ_PATIENCE: Duration = Duration::from_secs(1);
/// Said with every answer, as it is easily forgotten.
const LASTS: &str = "until restart";

/// `/api/v1/controls`.
pub async fn controls(context: web::Data<Context>, request: HttpRequest, body: web::Payload) -> HttpResponse {
    let mut names: Option<Vec<String>> = None;
    let result = if request.method() == Method::PATCH {
        let values = match parse(body).await {
            Ok(values) => values,
            Err(answer) => return answer,
        };
        // What goes back to its default needs no line.
        names = Some(values.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect());
        ask(&context, |board| board.mailbox.change_controls(ControlChange::Set(values))).await
    } else if request.method() == Method::DELETE {
        ask(&context, |board| board.mailbox.change_controls(ControlChange::Reset)).await
    } else {
        read_controls(&context).await.ok_or_else(|| no_controls(&context))
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
pub async fn settings(context: web::Data<Context>, request: HttpRequest, body: web::Payload) -> HttpResponse {
    if request.method() != Method::PATCH {
        return answer(StatusCode::OK, &document(&context.board.settings()));
    }
    let change = match parse(body).await.map(|object| Change::from_json(&object)) {
        Ok(Ok(change)) => change,
        Ok(Err(reason)) => return failure(StatusCode::UNPROCESSABLE_ENTITY, &reason),
        Err(answer) => return answer,
    };
    match ask(&context, |board| board.mailbox.change(change)).await {
        Err(answer) => answer,
        Ok(settings) => {
            let mut document = document(&settings);
            if let Some(pipeline) = context.board.pipeline() {
                // A camera may deliver another size or rate than it was asked for.
                document["camera"] = json!({
                    "width": pipeline.camera.size.width,
                    "height": pipeline.camera.size.height,
                    "frame_rate": super::status::granted(pipeline.camera.frame_rate),
                });
            }
            document["to_keep"] = json!(settings.to_yaml());
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

/// The controls as the running camera tells them, or as they were when it was stopped or closed for a change. Reading starts
/// no camera and waits for no opening but the first.
async fn read_controls(context: &Context) -> Option<Controls> {
    let known = &context.board.controls;
    let mut news = known.subscribe();
    if known.is_live() {
        if let Some(controls) = known.fresh() {
            return Some(controls);
        }
        context.board.mailbox.read_controls();
        let _ = actix_rt::time::timeout(READ_PATIENCE, news.changed()).await;
    } else if known.get().is_none() && context.board.health.state().0 == State::Starting {
        // One that is open by now, and rests, has told nobody yet.
        context.board.mailbox.read_controls();
        let mut shutdown = context.shutdown.clone();
        tokio::select! {
            _ = news.wait_for(Option::is_some) => {}
            () = actix_rt::time::sleep(PATIENCE) => {}
            () = shutdown.requested() => {}
        }
    }
    known.get()
}

fn no_controls(context: &Context) -> HttpResponse {
    let (state, _) = context.board.health.state();
    refusal(match state.reason() {
        Some(reason) => ChangeError::NoCamera(reason.to_string()),
        None => ChangeError::Silent,
    })
}

/// Asks the capture thread, with the camera running.
async fn ask<T>(
    context: &Context,
    question: impl FnOnce(&Board) -> Result<Answer<T>, ChangeError>,
) -> Result<T, HttpResponse> {
    // First the demand: a stopped camera starts, and the question finds it open.
    let _demand = context.board.hub.demand();
    let mut answer = question(&context.board).map_err(refusal)?;
    let mut shutdown = context.shutdown.clone();
    let result = tokio::select! {
        result = &mut answer.result => result.unwrap_or(Err(ChangeError::Silent)),
        () = lose_patience(&context.board) => Err(answer.given_up()),
        () = shutdown.requested() => Err(ChangeError::Silent),
    };
    result.map_err(refusal)
}

/// Ends when there is no use in waiting for the capture thread any longer.
async fn lose_patience(board: &Board) {
    let start = Instant::now();
    // Viewers of a slow camera get a picture before it is opened once more.
    while start.elapsed() < CHANGE_PATIENCE + 2 * board.frame_period() && !board.health.hangs() {
        actix_rt::time::sleep(LOOK_EVERY).await;
    }
}

/// The answer to who asked for what cannot be done.
fn refusal(error: ChangeError) -> HttpResponse {
    match error {
        ChangeError::Refused(refusal) => {
            let bound = |bound: &Option<Value>| bound.as_ref().map_or(Json::Null, Value::to_json);
            answer(
                StatusCode::UNPROCESSABLE_ENTITY,
                &json!({
                    "error": refusal.reason,
                    "control": refusal.control,
                    "value": refusal.value,
                    "min": bound(&refusal.min),
                    "max": bound(&refusal.max),
                }),
            )
        }
        ChangeError::Failed(reason) => failure(StatusCode::UNPROCESSABLE_ENTITY, &reason),
        ChangeError::NoCamera(reason) => {
            failure(StatusCode::SERVICE_UNAVAILABLE, &format!("there is no camera to ask: {reason}"))
        }
        error @ (ChangeError::Silent | ChangeError::StillTried) => {
            failure(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
        }
        error @ ChangeError::Crowded => {
            let mut response = failure(StatusCode::TOO_MANY_REQUESTS, &error.to_string());
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            response
        }
    }
}

/// The body as a JSON object.
async fn parse(payload: web::Payload) -> Result<Map<String, Json>, HttpResponse> {
    let body = body::read(payload).await?;
    serde_json::from_slice(&body).map_err(|error| {
        let (status, what) = match error.classify() {
            serde_json::error::Category::Data => (StatusCode::UNPROCESSABLE_ENTITY, "the body must be a JSON object"),
            _ => (StatusCode::BAD_REQUEST, "the body is not JSON"),
        };
        failure(status, &format!("{what}: {error}"))
    })
}

pub(super) fn failure(status: StatusCode, reason: &str) -> HttpResponse {
    answer(status, &json!({ "error": reason }))
}

fn answer(status: StatusCode, document: &Json) -> HttpResponse {
    HttpResponse::build(status).insert_header((header::CACHE_CONTROL, "no-store")).json(document)
}
