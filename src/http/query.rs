//! Query strings, read as leniently as their writers need: unknown parameters, ones without `=`, stray `&` and `?` are
//! passed over; only a value that cannot be meant is refused. All values are plain words and numbers, which nobody needs
//! to percent-encode.

use std::time::Duration;

use actix_web::HttpRequest;

use super::viewers::StreamOptions;

/// A request's query.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a>(&'a str);

impl<'a> From<&'a str> for Query<'a> {
    fn from(text: &'a str) -> Self {
        Self(text)
    }
}

impl<'a> Query<'a> {
    /// Of a request.
    pub fn of(request: &'a HttpRequest) -> Self {
        Self(request.query_string())
    }

    /// The first value of a parameter; empty for one without `=`.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        // Some clients append "?cacheBust=…" to an address that has a query.
        self.0.split(['&', '?', ';']).find_map(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (key == name).then_some(value)
        })
    }

    /// A switch: there, and not told to be off.
    fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value, "0" | "false" | "no" | "off"))
    }

    /// What a stream's query asks for.
    pub fn stream_options(&self) -> Result<StreamOptions, String> {
        let fps = match self.get("fps") {
            None | Some("") => None,
            Some(text) => Some(number("fps", text, 0.05, 120.0)?),
        };
        Ok(StreamOptions {
            fps,
            advance_headers: self.is_on("advance_headers"),
            dual_final_frames: self.is_on("dual_final_frames"),
            raw: self.is_on("raw"),
        })
    }

    /// Whether a placeholder is a good answer where there is no picture.
    pub fn wants_placeholder(&self) -> bool {
        self.is_on("placeholder")
    }

    /// How old a snapshot may be.
    pub fn max_age(&self) -> Result<Option<Duration>, String> {
        match self.get("max_age_ms") {
            None | Some("") => Ok(None),
            Some(text) => {
                let milliseconds = number("max_age_ms", text, 0.0, 3_600_000.0)?;
                Ok(Some(Duration::from_secs_f64(milliseconds / 1000.0)))
            }
        }
    }
}

fn number(name: &str, text: &str, min: f64, max: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(format!("{name} must be a number between {min} and {max}, got {:?}", super::printable(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_among_anything() {
        let query = Query("action=snapshot&123&&x=1=2?cacheBust=3&fps=");
        assert_eq!(query.get("action"), Some("snapshot"));
        assert_eq!(query.get("123"), Some(""));
        assert_eq!(query.get("x"), Some("1=2"));
        assert_eq!(query.get("cacheBust"), Some("3"));
        assert_eq!(query.get("y"), None);
        assert_eq!(query.stream_options(), Ok(StreamOptions::default()));
        assert_eq!(Query("").max_age(), Ok(None));
    }

    #[test]
    fn switches_and_numbers() {
        let options = Query("fps=2.5&advance_headers&dual_final_frames=1").stream_options().unwrap();
        assert_eq!(
            options,
            StreamOptions { fps: Some(2.5), advance_headers: true, dual_final_frames: true, raw: false }
        );
        assert!(!Query("advance_headers=0").stream_options().unwrap().advance_headers);
        assert_eq!(Query("max_age_ms=1500").max_age(), Ok(Some(Duration::from_millis(1500))));
        for bad in ["fps=0", "fps=0.049", "fps=nan", "fps=-1", "fps=1e9", "fps=abc", "max_age_ms=-1", "max_age_ms=x"] {
            let query = Query(bad);
            let error = query.stream_options().err().or(query.max_age().err()).unwrap();
            assert!(error.contains("must be a number between"), "{error}");
        }
    }
}
