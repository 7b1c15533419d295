//! The server: connections, each behind its guard, to one worker with the routes.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use actix_http::{HttpService, KeepAlive};
use actix_server::Server;
use actix_service::{ServiceFactoryExt as _, fn_factory, map_config};
use actix_web::body::{BodySize, EitherBody, MessageBody};
use actix_web::dev::{AppConfig, Service, ServiceRequest, ServiceResponse};
use actix_web::error::DispatchError;
use actix_web::http::{ConnectionType, Method, StatusCode, header};
use actix_web::middleware::{Next, NormalizePath, from_fn};
use actix_web::{App, HttpResponse, web};
use bytes::Bytes;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::connection::{Answering, Body, Connection};
use super::connections::{Connections, IN_PASSING, Limits};
use super::framing::ChunkScanner;
use super::guard::{Guard, HEAD_MAX, HEAD_TIMEOUT};
use super::turnstile::{Queues, Turn};
use super::viewers::Broadcaster;
use super::{Context, TEXT, WorkerProbe, access, body, not_found, routes};

/// Bytes the kernel may hold of an answer that were not sent yet. Small, as each of them makes a slow viewer's picture older,
/// and as a client that reads nothing could have requests without end answered into the kernel's memory; more than a
/// segment, as a fast viewer must not wait for its own acknowledgements.
const NOTSENT_LOWAT: u32 = 16 * 1024;
/// What a connection over the limits is told, before it has asked for anything.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n\
                      Content-Type: text/plain; charset=utf-8\r\nContent-Length: 42\r\n\r\n\
                      too many connections: try again in a while";

/// Makes the server on a bound socket. It runs when awaited.
///
/// One worker: the target has one core, and the worker only hands out references.
pub fn server(
    context: Arc<Context>,
    listener: TcpListener,
    limits: Limits,
    probe: WorkerProbe,
) -> std::io::Result<Server> {
    let data = web::Data::from(context);
    // A client that takes no answer, or vanished, must not hold a connection for ever; the kernel sees to that.
    let patience = data.config.http.write_timeout.get().max(Duration::from_secs(5));
    let service = move || {
        // Once, on the worker's own thread.
        actix_rt::spawn(probe.clone().answer());
        let metrics = &data.board.metrics;
        let write_timeout = data.config.http.write_timeout.get();
        let broadcaster = Broadcaster::new(Arc::clone(&data.board), data.shutdown.clone(), write_timeout);
        let (context, watched) = (data.clone(), Rc::clone(&broadcaster));
        let connections = Connections::new(
            limits,
            move |address| context.is_shared(address),
            move || watched.is_running(),
            metrics.connections_evicted.clone(),
            metrics.connections_refused.clone(),
        );
        actix_rt::spawn(end_idle(Rc::clone(&connections), data.shutdown.clone()));
        let app = App::new()
            // "//stream" and "/stream/" are what people type.
            .wrap(NormalizePath::trim())
            .wrap(from_fn(answer))
            .app_data(data.clone())
            .app_data(broadcaster)
            .configure(routes)
            .default_service(web::to(not_found));
        let http = HttpService::build()
            // The guard has clocks of its own.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(Duration::from_secs(1))
            // Streams rely on this: see `viewers`.
            .h1_write_buffer_size(1)
            .on_connect_ext(|guard: &Guard, extensions| {
                extensions.insert(Rc::clone(guard.connection()));
            })
            .h1(map_config(app, |()| AppConfig::default()));
        fn_factory(move || {
            let acceptor = Acceptor::new(Rc::clone(&connections), patience);
            std::future::ready(Ok::<_, ()>(acceptor))
        })
        .and_then(http)
    };
    let server = Server::build()
        .workers(1)
        .max_concurrent_connections(limits.connections + IN_PASSING)
        .shutdown_timeout(1)
        .disable_signals()
        .listen("http", listener, service)?;
    Ok(server.run())
}

/// What happens to every request, whatever its route: it is let through or refused, and its answer gets the headers that all
/// have.
async fn answer(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<AnswerBody<EitherBody<impl MessageBody>>>, actix_web::Error> {
    let answering = begin(&request);
    let wants_upgrade = request.head().upgrade();
    let mut response = match access::refuse(&request).or_else(|| refuse(&request)) {
        Some(refusal) => request.into_response(refusal).map_into_right_body(),
        None => next.call(request).await?.map_into_left_body(),
    };
    access::dress(&mut response);
    let awaits_body = answering.as_ref().is_some_and(Answering::awaits_body);
    if wants_upgrade || awaits_body {
        // We upgrade to nothing; actix-web would leave the connection in between. And whatever comes of the body now is not
        // read.
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response.map_body(|_, body| AnswerBody { body, rest: Bytes::new(), answering }))
}

/// Gives each new connection its guard and its place.
struct Acceptor {
    connections: Rc<Connections>,
    patience: Duration,
    queuing: Rc<Queuing>,
    /// One may be taken: asked twice, the answer is the same.
    is_open: Cell<bool>,
}

/// The acceptor's place in the queue of those who want the worker's time.
#[derive(Default)]
struct Queuing {
    turn: Cell<Turn>,
    waker: RefCell<Option<Waker>>,
}

impl Queues for Queuing {
    fn turn(&self) -> &Cell<Turn> {
        &self.turn
    }

    fn call(&self) -> bool {
        self.waker.take().inspect(Waker::wake_by_ref).is_some()
    }
}

impl Acceptor {
    fn new(connections: Rc<Connections>, patience: Duration) -> Self {
        Self { connections, patience, queuing: Rc::default(), is_open: Cell::new(false) }
    }
}

impl Service<TcpStream> for Acceptor {
    type Response = (Guard, Option<SocketAddr>);
    type Error = DispatchError;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        if self.is_open.get() || self.connections.may_pass(&self.queuing) {
            self.is_open.set(true);
            return Poll::Ready(Ok(()));
        }
        *self.queuing.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn call(&self, stream: TcpStream) -> Self::Future {
        self.is_open.set(false);
        std::future::ready(accept(stream, &self.connections, self.patience))
    }
}

fn accept(
    stream: TcpStream,
    connections: &Rc<Connections>,
    patience: Duration,
) -> Result<(Guard, Option<SocketAddr>), DispatchError> {
    let peer = stream.peer_addr()?;
    // Only a socket that is gone already refuses, and that shows soon enough.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(&stream);
    let _ = socket.set_tcp_notsent_lowat(NOTSENT_LOWAT);
    let _ = socket.set_tcp_user_timeout(Some(patience));
    let connection = Connection::new(stream, peer);
    let Some(place) = connections.admit(&connection) else {
        let _ = connection.socket().try_write(FULL);
        return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
    };
    Ok((Guard::new(connection, place), Some(peer)))
}

/// A stop need not wait for connections without a request.
async fn end_idle(connections: Rc<Connections>, mut shutdown: crate::shutdown::Shutdown) {
    shutdown.requested().await;
    connections.end_idle();
}

/// Tells the guard what follows the head that actix-http has read.
fn begin(request: &ServiceRequest) -> Option<Answering> {
    let connection = request.conn_data::<Rc<Connection>>()?;
    let headers = request.headers();
    // actix-http has refused heads with both, with two of one, and with a length that is no number.
    let body = if headers.contains_key(header::TRANSFER_ENCODING) {
        Body::Chunked(ChunkScanner::default(), body::CHUNKED_MAX)
    } else {
        Body::Length(length(request).unwrap_or_default())
    };
    Some(connection.answer(body))
}

fn length(request: &ServiceRequest) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// What no handler is to see.
fn refuse(request: &ServiceRequest) -> Option<HttpResponse> {
    let refusal = request.conn_data::<Rc<Connection>>().and_then(|connection| connection.refusal());
    let (status, text) = match refusal {
        Some(StatusCode::REQUEST_TIMEOUT) => (
            StatusCode::REQUEST_TIMEOUT,
            format!("the request's head did not come within {} s\n", HEAD_TIMEOUT.as_secs()),
        ),
        Some(status) => (status, format!("the request's head is larger than {} KiB\n", HEAD_MAX / 1024)),
        None if length(request).is_some_and(|length| length > body::MAX as u64) => return Some(body::too_large()),
        // Sends a tunnel's bytes behind its head.
        None if request.method() == Method::CONNECT => {
            (StatusCode::METHOD_NOT_ALLOWED, "this is no proxy\n".to_owned())
        }
        None => return None,
    };
    Some(HttpResponse::build(status).force_close().content_type(TEXT).body(text))
}

pin_project_lite::pin_project! {
    /// An answer's body. As long as there is one, the connection's next request waits.
    ///
    /// It comes in slices: actix-http copies each into memory of its own until the kernel has taken it, and a client that reads
    /// nothing is not to cost a whole picture there.
    struct AnswerBody<B> {
        #[pin]
        body: B,
        rest: Bytes,
        answering: Option<Answering>,
    }
}

impl<B: MessageBody> MessageBody for AnswerBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.project();
        if this.rest.is_empty() {
            match std::task::ready!(this.body.poll_next(cx)) {
                Some(Ok(bytes)) => *this.rest = bytes,
                other => return Poll::Ready(other),
            }
        }
        Poll::Ready(Some(Ok(this.rest.split_to(this.rest.len().min(NOTSENT_LOWAT as usize)))))
    }
}
