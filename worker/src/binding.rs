//! Bindings of the environment.

use js_sys::Reflect;
use wasm_bindgen::JsValue;
use worker::Env;

/// The value that is bound to a name. `None` if there is none, or if it is null.
fn value(env: &Env, name: &str) -> Option<JsValue> {
    let value = Reflect::get(env, &name.into()).ok()?;
    (!value.is_undefined() && !value.is_null()).then_some(value)
}

/// Finds the binding of a name by a method of [`Env`]. `None` if nothing is bound.
///
/// The methods read the name of the constructor of a binding. If that is null, or JSON with a
/// member of that name, they throw an exception through Rust, which ends the instance at each
/// request.
///
/// # Errors
///
/// The problem, if the binding is of another kind.
pub(crate) fn find<T>(
    env: &Env,
    name: &str,
    method: impl FnOnce(&Env, &str) -> worker::Result<T>,
) -> Option<Result<T, String>> {
    let value = value(env, name)?;
    let constructor = Reflect::get(&value, &JsValue::from("constructor"));
    if value.is_object() && !constructor.is_ok_and(|found| found.is_function()) {
        return Some(Err("its constructor is no function".to_owned()));
    }
    Some(method(env, name).map_err(|error| error.to_string()))
}

/// Finds a required binding, as [`find`] does. `kind` is for the error.
///
/// # Errors
///
/// The missing binding, the reason, and the action to take.
pub(crate) fn require<T>(
    env: &Env,
    name: &str,
    kind: &str,
    method: impl FnOnce(&Env, &str) -> worker::Result<T>,
) -> Result<T, String> {
    find(env, name, method)
        .unwrap_or_else(|| Err("nothing is".to_owned()))
        .map_err(|problem| {
            format!("no {kind} is bound to {name} ({problem}): bind one in wrangler.toml")
        })
}
