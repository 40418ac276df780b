//! The platform's time, randomness, streams, slow hashing and log.

use std::{rc::Rc, time::Duration};

use gloo_timers::future;
use js_sys::{Array, Uint8Array};
use strata::{
    digest::Algorithm,
    host::{
        Ask, Clock, Fetch, FetchError, KeyDerivation, Level, Log, Random, RateLimit, Reply, SignIns,
    },
    store::{Piece, Received, StoreError, Streams},
    time::Timestamp,
};
use wasm_bindgen::JsCast as _;
use wasm_bindgen_futures::JsFuture;
use web_sys::{CryptoKey, Pbkdf2Params, ReadableStream, WorkerGlobalScope};
use worker::{Env, RateLimiter, console_error, console_log};

use crate::{
    binding,
    bytes::Bytes,
    clock,
    failure::describe,
    http, platform,
    reader::reader,
    stream::{self, Hasher, Pieces},
};

/// The isolate that the Worker runs in.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    sign_ins: Option<Rc<RateLimiter>>,
    sign_ins_of_address: Option<Rc<RateLimiter>>,
}

impl Edge {
    /// Makes a host with the rate limiters of the environment, if it has any.
    pub(crate) fn of(env: &Env) -> Self {
        Self {
            sign_ins: limiter(env, "SIGN_INS"),
            sign_ins_of_address: limiter(env, "SIGN_INS_OF_ADDRESS"),
        }
    }
}

/// The rate limiter that is bound to a name. A binding of another kind is logged as an error: it
/// limits nothing, although the operator expects it to.
fn limiter(env: &Env, name: &str) -> Option<Rc<RateLimiter>> {
    let limiter = binding::find(env, name, Env::rate_limiter)?.inspect_err(|error| {
        let fields = [("binding", name), ("error", error)];
        log(Level::Error, "binding is no rate limiter", &fields);
    });
    limiter.ok().map(Rc::new)
}

impl Streams for Edge {
    type Body = ReadableStream;
    type Bytes = Bytes;
    type Reader = Pieces;
    type Hasher = Hasher;

    async fn hash(
        &self,
        body: ReadableStream,
        algorithm: Algorithm,
    ) -> Result<Received, StoreError> {
        let reader = reader(&body)?;
        let received = stream::hash(&reader, algorithm).await;
        if received.is_err() {
            reader.give_up().await;
        }
        received
    }

    async fn collect(
        &self,
        body: ReadableStream,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        stream::collect(&body, limit).await
    }

    async fn hold(&self, body: ReadableStream, length: u64) -> Result<Bytes, StoreError> {
        Bytes::hold(&body, length).await
    }

    fn hasher(&self, algorithm: Algorithm) -> Result<Hasher, StoreError> {
        Hasher::new(algorithm)
    }

    fn read(&self, body: ReadableStream) -> Result<Pieces, StoreError> {
        reader(&body).map(Pieces::of)
    }

    fn concatenate(
        &self,
        pieces: Vec<Piece<ReadableStream, Bytes>>,
        length: u64,
    ) -> ReadableStream {
        stream::concatenate(pieces, length)
    }

    async fn discard(&self, body: ReadableStream) {
        stream::discard(&body).await;
    }
}

impl Clock for Edge {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    async fn sleep(&self, duration: Duration) {
        future::sleep(duration).await;
    }
}

impl Random for Edge {
    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        platform::random(&mut bytes);
        bytes
    }
}

impl KeyDerivation for Edge {
    async fn derive(
        &self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Result<[u8; 32], String> {
        let derive = async || {
            let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
            let subtle = scope.crypto()?.subtle();
            let password = Uint8Array::from(password);
            let usages = Array::of1(&"deriveBits".into());
            let key = subtle.import_key_with_str("raw", &password, "PBKDF2", false, &usages)?;
            let key: CryptoKey = JsFuture::from(key).await?.unchecked_into();
            let salt = Uint8Array::from(salt);
            let algorithm = Pbkdf2Params::new_with_str("PBKDF2", "SHA-256", iterations, &salt);
            JsFuture::from(subtle.derive_bits_with_object(&algorithm, &key, 256)?).await
        };
        let bits = derive().await.map_err(describe)?;
        Uint8Array::new(&bits)
            .to_vec()
            .try_into()
            .map_err(|_| "the platform derived no 32 bytes".to_owned())
    }
}

impl RateLimit for Edge {
    async fn admits(&self, counted: SignIns, key: &str) -> bool {
        let limiter = match counted {
            SignIns::OfAddress => &self.sign_ins_of_address,
            SignIns::OfUser => &self.sign_ins,
        };
        let Some(limiter) = limiter else {
            return true;
        };
        match limiter.limit(key.to_owned()).await {
            Ok(outcome) => outcome.success,
            Err(error) => {
                // The rate limiter failed, so only the isolate's own count of failures is left.
                let fields = [("error", &*describe(error))];
                self.log(Level::Error, "rate limiter failed", &fields);
                true
            }
        }
    }
}

impl Fetch for Edge {
    async fn fetch(&self, ask: Ask) -> Result<Reply<ReadableStream>, FetchError> {
        http::ask(&ask).await
    }
}

impl Log for Edge {
    fn log(&self, level: Level, message: &'static str, fields: &[(&'static str, &str)]) {
        log(level, message, fields);
    }
}

fn log(level: Level, message: &'static str, fields: &[(&'static str, &str)]) {
    let mut line = serde_json::Map::from_iter([("message".to_owned(), message.into())]);
    line.extend(
        fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into())),
    );
    let line = serde_json::Value::Object(line);
    match level {
        Level::Error => console_error!("{line}"),
        Level::Info => console_log!("{line}"),
    }
}
