//! Who may ask for what, decided by a request's head alone, before anything else looks at it; and the headers by which
//! browsers keep other people's pages away.

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use serde_json::json;

use super::host::{self, Own};
use super::origin::foreign;
use super::page::Page;
use super::proxies::Arrival;
use super::query::Query;
use super::{Context, METHODS, TEXT};
use crate::config;
use crate::config::web::{AllowedHost, AllowedOrigin};

/// The paths of streams, also below `/webcam`.
pub const STREAMS: [&str; 3] = ["/stream", "/stream.mjpg", "/stream.mjpeg"];
/// Those of snapshots.
pub const SNAPSHOTS: [&str; 3] = ["/snapshot", "/snapshot.jpg", "/snapshot.jpeg"];

/// What is the same for all requests.
#[derive(Clone, Debug)]
pub struct Access {
    http: config::Http,
    own: Own,
    /// The page.
    pub page: Page,
    /// What may run in the page, and who may frame it.
    pub page_policy: HeaderValue,
    /// The same for what is not meant to be shown by a browser at all.
    policy: HeaderValue,
}

impl Access {
    /// As it is configured.
    pub fn new(http: &config::Http) -> Self {
        let ancestors = if http.frame_ancestors.iter().any(|one| matches!(one, AllowedOrigin::Any)) {
            "*".to_owned()
        } else {
            http.frame_ancestors.iter().fold("'self'".to_owned(), |all, one| format!("{all} {one}"))
        };
        let page = Page::new();
        // Hashes and origins are visible ASCII.
        let policy = |first: &str| {
            HeaderValue::from_str(&format!("{first}; frame-ancestors {ancestors}"))
                .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'self'"))
        };
        Self {
            page_policy: policy(&page.policy),
            policy: policy("default-src 'none'"),
            page,
            own: Own::from_environment(),
            http: http.clone(),
        }
    }

    fn refuse_host(&self, request: &ServiceRequest) -> Option<String> {
        let allowed = &self.http.allowed_hosts;
        if allowed.iter().any(|one| *one == AllowedHost::Any) {
            return None;
        }
        // Neither is there for HTTP/1.0 only, which no browser sends: actix-http refuses HTTP/1.1 without Host, and two of them.
        let host = request.headers().get(header::HOST).map(HeaderValue::as_bytes);
        let named = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let strange = host.into_iter().chain(named).find(|raw| !host::is_ours(raw, allowed, &self.own))?;
        Some(host::refusal(strange))
    }

    fn arrival(&self, request: &ServiceRequest) -> Arrival {
        let named = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let host = || request.headers().get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
        Arrival::of(request.peer_addr(), request.headers(), named.unwrap_or_else(host), &self.http.trusted_proxies)
    }
}

/// What a target is, as far as other people's pages are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A stream or a snapshot: every page may show them, some may read them.
    Picture,
    /// For programs and the camera's own page.
    Api,
    /// The page, and what nobody minds.
    Other,
}

impl Kind {
    /// `path` has its percent-encodings undone, but perhaps not its slashes put right.
    fn of(path: &str, query: Query<'_>) -> Self {
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        if parts.peek() == Some(&"webcam") {
            parts.next();
        }
        let is_picture = |part: &str| STREAMS.iter().chain(&SNAPSHOTS).any(|path| path[1..] == *part);
        match parts.next() {
            Some("api") => Self::Api,
            Some(part) if is_picture(part) => Self::Picture,
            None | Some("index.html" | "index.htm") if query.get("action").is_some_and(|action| !action.is_empty()) => {
                Self::Picture
            }
            _ => Self::Other,
        }
    }
}

/// Refuses what a request's head is enough to refuse for. Notes how the rest arrived.
pub fn refuse(request: &ServiceRequest) -> Option<HttpResponse> {
    let access = &request.app_data::<web::Data<Context>>()?.access;
    let kind = Kind::of(request.match_info().as_str(), Query::of(request.request()));
    let answer = |status, reason: String| {
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        Some(match kind {
            Kind::Api => response.json(json!({ "error": reason })),
            Kind::Picture | Kind::Other => response.content_type(TEXT).body(reason + "\n"),
        })
    };
    if let Some(reason) = access.refuse_host(request) {
        return answer(StatusCode::MISDIRECTED_REQUEST, reason);
    }
    let arrival = access.arrival(request);
    let is_write = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let value = |name: HeaderName| request.headers().get(name).map(HeaderValue::as_bytes);
    if kind == Kind::Api || is_write {
        let site = value(HeaderName::from_static("sec-fetch-site"));
        if let Some(foreign) = foreign(value(header::ORIGIN), site, arrival.origin.as_ref()) {
            return answer(StatusCode::FORBIDDEN, foreign.to_string());
        }
    }
    if kind == Kind::Api && is_write && has_body(request) && !value(header::CONTENT_TYPE).is_some_and(is_json) {
        let got = value(header::CONTENT_TYPE).map_or("none".into(), String::from_utf8_lossy);
        let got = super::printable(&got);
        let reason = format!("the body must be JSON and say so, with Content-Type: application/json, got {got}");
        return answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason);
    }
    request.extensions_mut().insert(arrival);
    None
}

fn has_body(request: &ServiceRequest) -> bool {
    let length = request.headers().get(header::CONTENT_LENGTH);
    length.is_some_and(|length| length.as_bytes().iter().any(|digit| (b'1'..=b'9').contains(digit)))
        || request.headers().contains_key(header::TRANSFER_ENCODING)
}

fn is_json(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|&b| b == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// The address of whoever asks, also through a trusted proxy; its port is 0 then.
pub fn client(request: &HttpRequest) -> Option<std::net::SocketAddr> {
    request.extensions().get::<Arrival>().map_or_else(|| request.peer_addr(), |arrival| arrival.client)
}

/// Gives an answer, whatever it is, the headers that browsers heed.
pub fn dress<B>(response: &mut ServiceResponse<B>) {
    let request = response.request().clone();
    let Some(context) = request.app_data::<web::Data<Context>>() else { return };
    let access = &context.access;
    let kind = Kind::of(request.match_info().as_str(), Query::of(&request));
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    let sharing = if kind == Kind::Picture { "cross-origin" } else { "same-origin" };
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static(sharing));
    if kind != Kind::Picture {
        if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
            headers.insert(header::CONTENT_SECURITY_POLICY, access.policy.clone());
        }
        return;
    }
    let allowed = &access.http.allow_origins;
    if allowed.is_empty() {
        return;
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let origin = request.headers().get(header::ORIGIN).filter(|origin| allowed.allows(origin.as_bytes()));
    let Some(origin) = origin else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if request.method() == Method::OPTIONS {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    } else {
        let exposed = HeaderValue::from_static("X-Timestamp, X-Sequence, X-Age-Ms, X-Reason, Content-Length");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_told_apart_however_they_are_written() {
        for (path, query, kind) in [
            ("/", "", Kind::Other),
            ("/", "action=stream", Kind::Picture),
            ("/webcam", "x&action=snapshot", Kind::Picture),
            ("//webcam///", "action=nonsense", Kind::Picture),
            ("/index.html", "action=stream", Kind::Picture),
            ("/", "action", Kind::Other),
            ("/metrics", "action=stream", Kind::Other),
            ("/stream", "", Kind::Picture),
            ("/webcam/stream.mjpg/", "", Kind::Picture),
            ("//snapshot.jpg", "", Kind::Picture),
            ("/streamx", "", Kind::Other),
            ("/api/v1/status", "action=stream", Kind::Api),
            ("//webcam//api/v1/nothing", "", Kind::Api),
            ("/api", "", Kind::Api),
            ("/apix", "", Kind::Other),
            ("/nothing", "", Kind::Other),
            ("*", "", Kind::Other),
            ("", "", Kind::Other),
        ] {
            assert_eq!(Kind::of(path, Query::from(query)), kind, "{path}?{query}");
        }
    }

    #[test]
    fn json_is_named_with_or_without_parameters() {
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/json ;x"] {
            assert!(is_json(good.as_bytes()), "{good}");
        }
        for bad in
            ["", "text/plain", "application/jsonp", "text/plain; application/json", "application/x-www-form-urlencoded"]
        {
            assert!(!is_json(bad.as_bytes()), "{bad}");
        }
    }
}
