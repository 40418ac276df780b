//! The token end-point: issues a token to a client that signs in.
//!
//! `GET` signs in by Basic, as distribution's token specification says.
//! `POST` signs in by a form, as its OAuth2 variant does (RFC 6749, section 4.3).
//! There are no refresh tokens: a client keeps its password or its robot's token.

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

use crate::{
    access::{Access, Credentials, Need, token::Grant},
    error::{Code, Error},
    platform::Platform,
    registry::{
        Registry,
        about::About,
        headers::text,
        reply::{Answer, respond_with_json},
        request::Request,
        visit::visit,
    },
    route,
    store::Streams as _,
};

/// More bytes than a form with a scope for each repository of a large push.
const MAX_FORM: u64 = 64 * 1024;

/// The most scopes of one request: clients send two or three.
const MAX_SCOPES: usize = 100;

impl<P: Platform> Registry<P> {
    /// Issues a token for those of the requested actions that the caller may do.
    pub(super) async fn token(
        &self,
        request: &mut Request<P::Body>,
        scopes: &[String],
        about: &About<'_>,
    ) -> Answer<P> {
        let access = &self.settings.access;
        let mut scopes = scopes.to_vec();
        require_few(&scopes)?;
        let caller = if request.method == Method::POST {
            let form = match request.body.take() {
                Some(body) => self.host.collect(body, MAX_FORM).await?,
                None => Some(Vec::new()),
            };
            let form = form.ok_or_else(|| {
                bad_form("the form is too large").with_status(StatusCode::PAYLOAD_TOO_LARGE)
            })?;
            let credentials = credentials(text(&request.headers, header::CONTENT_TYPE), &form)?;
            scopes.extend(route::scopes(&form));
            require_few(&scopes)?;
            access
                .sign_in(
                    &credentials,
                    visit(&self.settings, request),
                    Need::Token,
                    &self.host,
                )
                .await?
        } else {
            access
                .identify(visit(&self.settings, request), Need::Token, &self.host)
                .await?
        };
        about.made_by(&caller);
        access.permit(&caller, Need::Token, visit(&self.settings, request))?;
        let scopes = scopes.iter().map(String::as_str);
        let meant = |name| match self.settings.upstreams.mirrored(&name) {
            Some(mirrored) => mirrored.name,
            None => name,
        };
        let visit = visit(&self.settings, request);
        let (token, claims) = access.issue(&caller, visit, scopes, meant, &self.host)?;
        let granted: Vec<String> = claims.access.iter().map(Grant::scope).collect();
        let body = json!({
            "token": token,
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": Access::TOKEN_LIFETIME.as_secs(),
            "scope": granted.join(" "),
        });
        let mut response = respond_with_json(StatusCode::OK, body.to_string());
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

fn require_few(scopes: &[String]) -> Result<(), Error> {
    if scopes.len() <= MAX_SCOPES {
        return Ok(());
    }
    let found = format!(
        "the request has {} scopes; at most {MAX_SCOPES} are allowed: request several tokens",
        scopes.len()
    );
    Err(bad_form(&found))
}

fn credentials(content_type: Option<&str>, form: &[u8]) -> Result<Credentials, Error> {
    let essence = content_type.and_then(|text| text.split(';').next());
    if !essence.is_some_and(|text| {
        text.trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    }) {
        return Err(bad_form(
            "the body is not application/x-www-form-urlencoded",
        ));
    }
    let get = |name: &str| {
        form_urlencoded::parse(form)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    if get("grant_type").as_deref() != Some("password") {
        return Err(bad_form(
            "the grant_type is not password, the only one that there is",
        ));
    }
    match (get("username"), get("password")) {
        (Some(user), Some(password)) => Ok(Credentials { user, password }),
        _ => Err(bad_form("the form has no username or no password")),
    }
}

fn bad_form(found: &str) -> Error {
    Error::new(Code::Unsupported, found).with_status(StatusCode::BAD_REQUEST)
}
