//! The warm tier on Workers KV.
//!
//! <https://developers.cloudflare.com/kv/api/>

use std::time::Duration;

use js_sys::{Object, Reflect, Uint8Array};
use strata::store::{StoreError, Values};
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};

use crate::{bytes::Bytes, r2::failed};

#[wasm_bindgen]
extern "C" {
    /// The binding.
    #[derive(Clone, Debug)]
    type KvNamespace;

    #[wasm_bindgen(method, catch)]
    async fn get(this: &KvNamespace, key: &str, kind: &str) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn put(
        this: &KvNamespace,
        key: &str,
        value: &Uint8Array,
        options: &Object,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch)]
    async fn delete(this: &KvNamespace, key: &str) -> Result<JsValue, JsValue>;
}

/// A namespace.
#[derive(Clone, Debug)]
pub(crate) struct Namespace(KvNamespace);

impl Namespace {
    /// The namespace that is bound to a name. Where nothing is, its first use fails and says so.
    pub(crate) fn of(env: &JsValue, name: &str) -> Self {
        let binding = Reflect::get(env, &name.into()).unwrap_or_default();
        Self(binding.unchecked_into())
    }
}

impl Values for Namespace {
    type Bytes = Bytes;

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let found = self.0.get(key, "arrayBuffer").await;
        let found = found.map_err(|error| failed(&error))?;
        Ok((!found.is_null()).then(|| Bytes::of(Uint8Array::new(&found))))
    }

    async fn put(&self, key: &str, value: Bytes, time_to_live: Duration) -> Result<(), StoreError> {
        let options = Object::new();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a time to live is some years at most"
        )]
        let seconds = time_to_live.as_secs() as f64;
        let set = Reflect::set(&options, &"expirationTtl".into(), &seconds.into());
        set.map_err(|error| failed(&error))?;
        let written = self.0.put(key, &value.0, &options).await;
        written.map(drop).map_err(|error| failed(&error))
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let deleted = self.0.delete(key).await;
        deleted.map(drop).map_err(|error| failed(&error))
    }
}
