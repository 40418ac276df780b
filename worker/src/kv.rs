//! The warm tier on Workers KV.
//!
//! <https://developers.cloudflare.com/kv/api/>

use std::time::Duration;

use strata::store::{StoreError, Values};
use wasm_bindgen::JsValue;
use worker::{
    Env, KvStore,
    kv::{KvError, ToRawKvValue},
};

use crate::{binding, bytes::Bytes, failure::failed};

/// A namespace, or the reason for its absence.
#[derive(Clone, Debug)]
pub(crate) struct Namespace(Result<KvStore, StoreError>);

impl Namespace {
    /// The namespace that is bound to a name. If there is none, each use fails with the reason.
    pub(crate) fn of(env: &Env, name: &str) -> Self {
        Self(binding::require(env, name, "KV namespace", Env::kv).map_err(StoreError::Failed))
    }

    fn store(&self) -> Result<&KvStore, StoreError> {
        self.0.as_ref().map_err(StoreError::clone)
    }
}

/// Bytes as a value. `worker` takes a slice, which would copy them through wasm's memory.
struct Value(Bytes);

impl ToRawKvValue for Value {
    fn raw_kv_value(&self) -> Result<JsValue, KvError> {
        Ok((&self.0.view).into())
    }
}

impl Values for Namespace {
    type Bytes = Bytes;

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        // As a stream: `bytes` copies the value into wasm's memory.
        match self.store()?.get(key).stream().await.map_err(failed)? {
            Some(stream) => Bytes::read(&stream).await.map(Some),
            None => Ok(None),
        }
    }

    async fn put(&self, key: &str, value: Bytes, time_to_live: Duration) -> Result<(), StoreError> {
        let put = self.store()?.put(key, Value(value)).map_err(failed)?;
        let put = put.expiration_ttl(time_to_live.as_secs());
        put.execute().await.map_err(failed)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.store()?.delete(key).await.map_err(failed)
    }
}
