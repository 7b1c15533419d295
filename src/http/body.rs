//! A request's body: small, and in time.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use bytes::BytesMut;
use futures::StreamExt as _;

use super::control::failure;
use super::guard::BODY_TIMEOUT;

/// No body is longer.
pub const MAX: usize = 8 * 1024;
/// So many bytes of a chunked one are let through: with its framing it may be longer.
pub const CHUNKED_MAX: u64 = 8 * MAX as u64;

/// Reads a whole body. To be called after everything that can be refused without it.
///
/// # Errors
/// The answer to a body that is too large, too slow or broken.
pub async fn read(mut payload: web::Payload) -> Result<BytesMut, HttpResponse> {
    let read = async {
        let mut body = BytesMut::new();
        while let Some(piece) = payload.next().await {
            let Ok(piece) = piece else {
                return Err(failure(StatusCode::BAD_REQUEST, "the body ends early or its chunks are broken"));
            };
            if body.len() + piece.len() > MAX {
                return Err(too_large());
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    };
    let Ok(result) = actix_rt::time::timeout(BODY_TIMEOUT, read).await else {
        let reason = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
        return Err(failure(StatusCode::REQUEST_TIMEOUT, &reason));
    };
    result
}

/// The answer to a body that is too large.
pub fn too_large() -> HttpResponse {
    let reason = format!("the body is larger than {} KiB", MAX / 1024);
    failure(StatusCode::PAYLOAD_TOO_LARGE, &reason)
}
