//! Hints: what a location says of an upload, so that the next request need not read it.
//!
//! A registry signs the upload as it knows it: the last step, and the time. A request that brings
//! this back has read the session at that time. It must write within BOUND of then, so the hint
//! counts for half of BOUND. The step that it writes is created only if absent, so a session that
//! has moved on refuses it, as ever.

use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    host::Clock as _,
    name::Name,
    platform::Platform,
    registry::{
        bound::Bound,
        upload::{Uploads, session::Session},
    },
    time::Timestamp,
    upload::{Step, Upload, UploadHint, UploadId},
};

/// An upload at a time.
#[derive(Debug, Deserialize, Serialize)]
struct KnownUpload {
    name: String,
    id: UploadId,
    /// Milliseconds since the Unix epoch.
    time: u64,
    number: u32,
    last: Step,
}

impl<P: Platform> Uploads<P> {
    /// The hint for the next request of an upload that was read or written at this moment.
    pub(in crate::registry) fn hint(
        &self,
        name: &Name,
        id: UploadId,
        upload: &Upload,
    ) -> UploadHint {
        let known = KnownUpload {
            name: name.to_string(),
            id,
            time: self.host.now().0,
            number: upload.number,
            last: upload.last.clone(),
        };
        // The first location is as short as ever: clients may append to it, or use it for all
        // chunks.
        let known = Some(known).filter(|known| known.number > 0);
        let known = known.and_then(|known| serde_json::to_string(&known).ok());
        UploadHint {
            step: upload.number,
            signed: known.and_then(|known| self.settings.access.seal_upload(&known)),
        }
    }

    /// The upload that a hint proves, and a session that counts from the time of the hint.
    pub(super) fn known<'n>(
        &self,
        name: &'n Name,
        id: UploadId,
        hint: &UploadHint,
    ) -> Option<(Session<'n>, Upload)> {
        let signed = hint.signed.as_deref()?;
        let known = self.settings.access.open_upload(signed)?;
        let known: KnownUpload = serde_json::from_slice(&known).ok()?;
        let time = Timestamp(known.time);
        let is_fresh = self.host.now().since(time) < self.settings.grace / 4;
        if !is_fresh || known.name != name.as_str() || known.id != id {
            return None;
        }
        let bound = Bound::since(time, self.settings.grace);
        let upload = Upload {
            number: known.number,
            last: known.last,
        };
        Some((Session { name, id, bound }, upload))
    }

    /// The upload that a request continues, as it is stored.
    pub(super) async fn read_session<'n>(
        &self,
        name: &'n Name,
        id: UploadId,
        hint: &UploadHint,
    ) -> Result<(Session<'n>, Upload), Error> {
        let bound = self.grants.bound();
        let upload = self.read_upload(name, id, hint.step).await?;
        Ok((Session { name, id, bound }, upload))
    }
}
