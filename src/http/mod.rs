//! The web server: routes, and what they have in common.
//!
//! One worker: the target has one core, and the worker only hands out references. The contract with each kind of client
//! is written down in `docs/http.md`.

use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{self, HeaderName};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use tokio::sync::watch;

use crate::appliance::diagnostics::Reader;
use crate::board::Board;
use crate::config::Config;
use crate::shutdown::Shutdown;

pub mod access;
mod body;
mod connection;
mod connections;
mod control;
mod diagnostics;
mod framing;
mod guard;
mod host;
mod origin;
mod page;
mod proxies;
mod query;
mod server;
mod snapshot;
mod status;
mod turnstile;
pub mod viewers;

use access::{Access, SNAPSHOTS, STREAMS};
use connection::Connection;
pub use connections::Limits;
use query::Query;
pub use server::server;
use viewers::{Broadcaster, Viewers};

const METHODS: &str = "GET, HEAD, OPTIONS";
const SETTINGS_METHODS: &str = "GET, HEAD, PATCH, OPTIONS";
const CONTROLS_METHODS: &str = "GET, HEAD, PATCH, DELETE, OPTIONS";

/// What handlers need.
#[derive(Debug)]
pub struct Context {
    /// The capture side.
    pub board: Arc<Board>,
    /// What is in force.
    pub config: Config,
    /// What of the user's configuration could not be used.
    pub problems: Vec<String>,
    /// What the machine can say of itself.
    pub diagnostics: Reader,
    /// All viewers.
    pub viewers: Arc<Viewers>,
    /// Ends what waits.
    pub shutdown: Shutdown,
    /// Who may ask for what.
    pub access: Access,
}

impl Context {
    /// True for addresses that many people may be behind: this machine's own, where a proxy may run, and trusted proxies.
    fn is_shared(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.config.http.trusted_proxies.contains(address)
    }
}

/// Lets the watchdog ask whether the worker still turns.
#[derive(Clone, Debug)]
pub struct WorkerProbe {
    ask: watch::Sender<u64>,
    answered: Arc<AtomicU64>,
}

impl Default for WorkerProbe {
    fn default() -> Self {
        // Asked from the start, so that the first answer is a real one.
        Self { ask: watch::Sender::new(1), answered: Arc::default() }
    }
}

impl WorkerProbe {
    /// True if the worker has answered the last time it was asked. Asks again.
    pub fn check(&self) -> bool {
        let mut answered = false;
        self.ask.send_modify(|asked| {
            answered = self.answered.load(Ordering::Relaxed) == *asked;
            *asked += u64::from(answered);
        });
        answered
    }

    async fn answer(self) {
        let mut asked = self.ask.subscribe();
        loop {
            self.answered.store(*asked.borrow_and_update(), Ordering::Relaxed);
            if asked.changed().await.is_err() {
                return;
            }
        }
    }
}

fn routes(config: &mut web::ServiceConfig) {
    // mjpg-streamer's paths end in a query: "/?action=stream".
    for path in ["/", "/webcam", "/index.html", "/index.htm", "/webcam/index.html"] {
        config.service(resource(path, web::get().to(root), web::head().to(root)));
    }
    for path in STREAMS {
        for prefix in ["", "/webcam"] {
            let path = format!("{prefix}{path}");
            config.service(resource(&path, web::get().to(stream_route), web::head().to(stream_route)));
        }
    }
    for path in SNAPSHOTS {
        for prefix in ["", "/webcam"] {
            let path = format!("{prefix}{path}");
            config.service(resource(&path, web::get().to(snapshot_route), web::head().to(snapshot_route)));
        }
    }
    // The page looks for them beside itself.
    for prefix in ["", "/webcam"] {
        let path = |path: &str| format!("{prefix}{path}");
        config
            .service(resource(&path(STATUS_PATH), web::get().to(status::status), web::head().to(status::status)))
            .service(resource(
                &path("/api/v1/diagnostics"),
                web::get().to(diagnostics::diagnostics),
                web::head().to(diagnostics::diagnostics),
            ))
            .service(
                resource(&path(CONTROLS_PATH), web::get().to(control::controls), web::head().to(control::controls))
                    .route(web::patch().to(control::controls))
                    .route(web::delete().to(control::controls)),
            )
            .service(
                resource(&path(SETTINGS_PATH), web::get().to(control::settings), web::head().to(control::settings))
                    .route(web::patch().to(control::settings)),
            );
    }
    config
        .service(resource("/healthz", web::get().to(status::healthz), web::head().to(status::healthz)))
        .service(resource("/metrics", web::get().to(status::metrics), web::head().to(status::metrics)))
        .service(resource("/favicon.ico", web::get().to(no_icon), web::head().to(no_icon)));
}

const STATUS_PATH: &str = "/api/v1/status";
const CONTROLS_PATH: &str = "/api/v1/controls";
const SETTINGS_PATH: &str = "/api/v1/settings";

/// What a path may be asked with.
fn methods(path: &str) -> &'static str {
    match path.strip_prefix("/webcam").unwrap_or(path) {
        CONTROLS_PATH => CONTROLS_METHODS,
        SETTINGS_PATH => SETTINGS_METHODS,
        _ => METHODS,
    }
}

fn resource(path: &str, get: actix_web::Route, head: actix_web::Route) -> actix_web::Resource {
    web::resource(path)
        .route(get)
        .route(head)
        .route(web::method(Method::OPTIONS).to(options))
        .default_service(web::to(wrong_method))
}

/// `/`: the page, or what mjpg-streamer would serve for `?action=…`.
async fn root(request: HttpRequest) -> HttpResponse {
    let query = Query::of(&request);
    match query.get("action") {
        Some("stream") => stream_route(request).await,
        Some("snapshot") => snapshot_route(request).await,
        Some(other) if !other.is_empty() => {
            bad_request(&format!("unknown action {:?}: use action=stream or action=snapshot", printable(other)))
        }
        _ => match request.app_data::<web::Data<Context>>() {
            Some(context) => HttpResponse::Ok()
                .content_type("text/html; charset=utf-8")
                .insert_header((header::CACHE_CONTROL, "no-cache"))
                .insert_header((header::CONTENT_SECURITY_POLICY, context.access.page_policy.clone()))
                .body(context.access.page.html.clone()),
            None => HttpResponse::InternalServerError().finish(),
        },
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

/// What a client sent, fit for an answer to it.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

async fn stream_route(request: HttpRequest) -> HttpResponse {
    let options = match Query::of(&request).stream_options() {
        Ok(options) => options,
        Err(reason) => return bad_request(&reason),
    };
    let (Some(context), Some(broadcaster), Some(connection)) = (
        request.app_data::<web::Data<Context>>(),
        request.app_data::<Rc<Broadcaster>>(),
        request.conn_data::<Rc<Connection>>(),
    ) else {
        return HttpResponse::InternalServerError().content_type(TEXT).body("no connection to stream to\n");
    };
    let mut response = HttpResponse::Ok();
    never_stored(&mut response);
    let content_type = if options.raw { "application/octet-stream" } else { crate::publish::multipart::CONTENT_TYPE };
    // A proxy that buffers makes pictures old.
    response.content_type(content_type).insert_header(("X-Accel-Buffering", "no")).force_close();
    if request.method() == Method::HEAD {
        return unframed(response.body(NoBody));
    }
    let client = access::client(&request);
    let Some(admission) = context.viewers.admit(client, &options, |address| context.is_shared(address)) else {
        return too_many(context.viewers.max());
    };
    log::debug!("viewer from {client:?}");
    unframed(response.body(broadcaster.body(connection, admission, options)))
}

/// Ends the body with the connection: many clients do not understand chunks.
fn unframed(mut response: HttpResponse) -> HttpResponse {
    let head = response.head_mut();
    head.no_chunking(true);
    // Some clients compare names by case.
    head.set_camel_case_headers(true);
    response
}

/// For HEAD: the body that a stream has none of, without saying that its length is 0.
struct NoBody;

impl MessageBody for NoBody {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(None)
    }
}

async fn snapshot_route(request: HttpRequest) -> HttpResponse {
    let query = Query::of(&request);
    let max_age = match query.max_age() {
        Ok(max_age) => max_age,
        Err(reason) => return bad_request(&reason),
    };
    match request.app_data::<web::Data<Context>>() {
        Some(context) => {
            snapshot::answer(&context.board, context.shutdown.clone(), max_age, query.wants_placeholder()).await
        }
        None => HttpResponse::InternalServerError().finish(),
    }
}

/// Headers of pictures: of this moment only.
fn never_stored(response: &mut HttpResponseBuilder) {
    const HEADERS: [(HeaderName, &str); 3] = [
        (header::CACHE_CONTROL, "no-store, no-cache, must-revalidate, max-age=0"),
        (header::PRAGMA, "no-cache"),
        (header::EXPIRES, "0"),
    ];
    for name_and_value in HEADERS {
        response.insert_header(name_and_value);
    }
}

fn too_many(max: usize) -> HttpResponse {
    let mut response = HttpResponse::ServiceUnavailable();
    never_stored(&mut response);
    response
        .insert_header((header::RETRY_AFTER, "5"))
        .content_type(TEXT)
        .body(format!("all {max} places are taken (http.max_viewers): try again later\n"))
}

fn bad_request(reason: &str) -> HttpResponse {
    let mut response = HttpResponse::BadRequest();
    never_stored(&mut response);
    response.content_type(TEXT).body(format!("{reason}\n"))
}

async fn options(request: HttpRequest) -> HttpResponse {
    HttpResponse::NoContent().insert_header((header::ALLOW, methods(request.path()))).finish()
}

async fn wrong_method(request: HttpRequest) -> HttpResponse {
    let methods = methods(request.path());
    HttpResponse::build(StatusCode::METHOD_NOT_ALLOWED)
        .insert_header((header::ALLOW, methods))
        .content_type(TEXT)
        .body(format!("{} is not allowed here: use {methods}\n", printable(request.method().as_str())))
}

async fn not_found(request: HttpRequest) -> HttpResponse {
    if request.method() == Method::OPTIONS {
        return options(request).await;
    }
    HttpResponse::NotFound().content_type(TEXT).body(
        "not found: try /, /stream, /snapshot, /api/v1/status, /api/v1/controls, /api/v1/settings, \
             /api/v1/diagnostics, /healthz or /metrics\n",
    )
}

async fn no_icon() -> HttpResponse {
    HttpResponse::NoContent().insert_header((header::CACHE_CONTROL, "max-age=86400")).finish()
}
