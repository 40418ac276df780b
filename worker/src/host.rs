//! Time, randomness, slow hashing and the log, as the platform gives them.

use std::time::Duration;

use gloo_timers::future;
use js_sys::{Array, ArrayBuffer, Object, Reflect, Uint8Array};
use strata::{
    host::{Ask, FetchError, Host, Level, Reply, SignIns},
    time::Timestamp,
};
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};
use web_sys::{ReadableStream, console};

use crate::{clock, http, r2::describe};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues)]
    fn get_random_values(array: &mut [u8]);

    #[wasm_bindgen(catch, js_namespace = ["crypto", "subtle"], js_name = importKey)]
    async fn import_key(
        format: &str,
        key: &Uint8Array,
        algorithm: &str,
        extractable: bool,
        usages: &Array,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(catch, js_namespace = ["crypto", "subtle"], js_name = deriveBits)]
    async fn derive_bits(
        algorithm: &Object,
        key: &JsValue,
        length: u32,
    ) -> Result<JsValue, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    /// A binding that limits how often something is done.
    #[derive(Clone, Debug)]
    type RateLimit;

    #[wasm_bindgen(method, catch)]
    async fn limit(this: &RateLimit, options: &Object) -> Result<JsValue, JsValue>;
}

/// The isolate that the Worker runs in.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    sign_ins: Option<RateLimit>,
    sign_ins_of_address: Option<RateLimit>,
}

impl Edge {
    /// With the rate limiters of the environment, if it has any.
    pub(crate) fn of(env: &JsValue) -> Self {
        let limiter = |name: &str| {
            let binding = Reflect::get(env, &name.into()).ok();
            let binding = binding.filter(JsValue::is_object)?;
            Some(binding.unchecked_into())
        };
        Self {
            sign_ins: limiter("SIGN_INS"),
            sign_ins_of_address: limiter("SIGN_INS_OF_ADDRESS"),
        }
    }
}

impl Host for Edge {
    type Body = ReadableStream;

    async fn fetch(&self, ask: Ask) -> Result<Reply<ReadableStream>, FetchError> {
        http::ask(&ask).await
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        get_random_values(&mut bytes);
        bytes
    }

    async fn sleep(&self, duration: Duration) {
        future::sleep(duration).await;
    }

    async fn derive(
        &self,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Result<[u8; 32], String> {
        let derive = async || {
            let usages = Array::of1(&"deriveBits".into());
            let key =
                import_key("raw", &Uint8Array::from(password), "PBKDF2", false, &usages).await?;
            let algorithm = Object::new();
            Reflect::set(&algorithm, &"name".into(), &"PBKDF2".into())?;
            Reflect::set(&algorithm, &"hash".into(), &"SHA-256".into())?;
            Reflect::set(&algorithm, &"salt".into(), &Uint8Array::from(salt))?;
            Reflect::set(&algorithm, &"iterations".into(), &iterations.into())?;
            derive_bits(&algorithm, &key, 256).await
        };
        let bits: ArrayBuffer = derive()
            .await
            .map_err(|error| describe(&error))?
            .unchecked_into();
        Uint8Array::new(&bits)
            .to_vec()
            .try_into()
            .map_err(|_| "the platform derived no 32 bytes".to_owned())
    }

    async fn admits(&self, counted: SignIns, key: &str) -> bool {
        let limiter = match counted {
            SignIns::OfAddress => &self.sign_ins_of_address,
            SignIns::OfUser => &self.sign_ins,
        };
        let Some(limiter) = limiter else {
            return true;
        };
        let ask = async || {
            let options = Object::new();
            Reflect::set(&options, &"key".into(), &key.into())?;
            let outcome = limiter.limit(&options).await?;
            Reflect::get(&outcome, &"success".into())
        };
        match ask().await {
            Ok(success) => success.is_truthy(),
            Err(error) => {
                // What counts is out of order: the isolate's own count of failures is left.
                let fields = [("error", &*describe(&error))];
                self.log(Level::Error, "rate limiter failed", &fields);
                true
            }
        }
    }

    fn log(&self, level: Level, message: &'static str, fields: &[(&'static str, &str)]) {
        let mut line = serde_json::Map::from_iter([("message".to_owned(), message.into())]);
        line.extend(
            fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).into())),
        );
        let line = serde_json::Value::Object(line).to_string().into();
        match level {
            Level::Error => console::error_1(&line),
            Level::Info => console::log_1(&line),
        }
    }
}
