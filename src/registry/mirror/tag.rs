//! Tags of upstreams: fresh ones from the bucket, others from the upstream.

use http::{Method, StatusCode, header};

use crate::{
    digest::Digest,
    error::Error,
    host::Clock as _,
    name::Tag,
    platform::Platform,
    registry::{
        headers::value,
        mirror::{
            Mirror,
            client::Question,
            error::UpstreamError,
            manifest::{accepting_manifests, announced},
            tags::{Learning, Sighting, Tagged},
        },
    },
    store::{
        after::{Learnt, Sighted},
        document::{TagTarget, from_json},
        key::Key,
        tiers::Wanted,
        trace::Trace,
    },
    tier::Tier,
    upstream::Mirrored,
};

/// The stored state of a tag.
#[derive(Debug, Default)]
struct StoredTag {
    etag: Option<String>,
    sighting: Option<Sighting>,
    is_invalidated: bool,
}

impl<P: Platform> Mirror<P> {
    /// The digest that a mirrored tag names: the stored one while it is fresh, else the upstream's.
    pub(super) async fn read_mirrored_tag(
        &self,
        mirrored: &Mirrored,
        tag: &Tag,
        trace: &Trace<P::Bytes>,
    ) -> Result<Tagged<P::Bytes>, Error> {
        let tags = &self.tags;
        let key = Key::tag(&mirrored.name, tag);
        let start = self.host.now();
        let is_fresh = |sighting: &&Sighting| {
            mirrored.upstream.is_immutable(tag)
                || start.since(sighting.seen) < mirrored.upstream.freshness
        };
        let named = |sighting: &Sighting| Tagged {
            digest: sighting.digest.clone(),
            content: None,
        };
        let stored = self.stored_tag(&key).await?;
        let is_valid = |_: &&Sighting| !stored.is_invalidated;
        let fresh = stored.sighting.as_ref().filter(is_valid);
        if let Some(fresh) = fresh.filter(is_fresh) {
            trace.step("tag", Tier::Cold, self.host.now().since(start));
            return Ok(named(fresh));
        }
        // A recent answer is stored only after its reply.
        let known = tags.seen.borrow().get(&key).and_then(|learning| {
            let sighting = Some(&learning.sighting).filter(|_| learning.over == stored.etag);
            sighting.filter(is_fresh).map(named)
        });
        if let Some(known) = known {
            trace.step("tag", Tier::Hot, self.host.now().since(start));
            return Ok(known);
        }
        let absent = tags.absent.borrow().get(&key).cloned();
        let asked = match absent.filter(|(until, _)| *until > start) {
            Some((_, error)) => Err(error),
            None => {
                let ask = async || self.ask_for_tag(mirrored, tag, &stored, trace).await;
                // A request that comes after a newer object was stored does not join an older
                // request.
                let flight = format!("{key} {}", stored.etag.as_deref().unwrap_or_default());
                tags.asking.share(&flight, &self.host, ask).await
            }
        };
        match (asked, stored.sighting) {
            (Ok(tagged), _) => {
                let sighting = Sighting {
                    digest: tagged.digest.clone(),
                    seen: start,
                };
                let over = stored.etag;
                tags.see(&key, Learning { sighting, over });
                trace.step("tag", Tier::Upstream, self.host.now().since(start));
                Ok(tagged)
            }
            (Err(error), Some(stale)) if error.is_outage() || mirrored.upstream.serves_gone => {
                self.serve_stale(mirrored, &error, trace);
                trace.step("tag", Tier::Cold, self.host.now().since(start));
                Ok(named(&stale))
            }
            (Err(error), _) => {
                if !error.is_outage() {
                    let until = start + self.tiers.policy().absence;
                    tags.miss(&key, until, &error);
                }
                Err(self.no_manifest(mirrored, &error))
            }
        }
    }

    /// Asks the upstream which manifest a tag names. An unchanged tag costs only a `HEAD`, which
    /// Docker Hub does not count as a pull.
    async fn ask_for_tag(
        &self,
        mirrored: &Mirrored,
        tag: &Tag,
        stored: &StoredTag,
        trace: &Trace<P::Bytes>,
    ) -> Result<Tagged<P::Bytes>, UpstreamError> {
        let asked = self.host.now();
        let sighting = stored.sighting.as_ref();
        let unchanged = match sighting {
            Some(sighting) => self.look_at_tag(mirrored, tag, &sighting.digest).await?,
            None => false,
        };
        let tagged = match sighting.filter(|_| unchanged) {
            Some(stored) => Tagged {
                digest: stored.digest.clone(),
                content: None,
            },
            None => {
                let (digest, content) = self.fetch_manifest(mirrored, tag.as_str(), None).await?;
                let wanted = Wanted::Manifest(&mirrored.name, &digest);
                self.tiers.insert(wanted, (*content).clone());
                Tagged {
                    digest,
                    content: Some(content),
                }
            }
        };
        trace.after.learn(Learnt {
            name: mirrored.name.clone(),
            digest: tagged.digest.clone(),
            content: tagged.content.clone(),
            tag: Some(Sighted {
                tag: tag.clone(),
                seen: asked,
                over: stored.etag.clone(),
            }),
        });
        Ok(tagged)
    }

    /// Whether a tag still names this digest, by the head of the manifest.
    async fn look_at_tag(
        &self,
        mirrored: &Mirrored,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<bool, UpstreamError> {
        let mut headers = accepting_manifests();
        headers.insert(header::IF_NONE_MATCH, value(&format!("\"{digest}\"")));
        let question = Question {
            method: Method::HEAD,
            path: &format!("/manifests/{tag}"),
            headers,
        };
        let reply = self.client.ask(mirrored, &question).await?;
        Ok(reply.status == StatusCode::NOT_MODIFIED
            || announced(&reply.headers).is_some_and(|announced| announced == *digest))
    }

    /// Reads the stored state of a tag.
    async fn stored_tag(&self, key: &Key) -> Result<StoredTag, Error> {
        let Some(meta) = self.store.head(key).await? else {
            return Ok(StoredTag::default());
        };
        let (sighting, is_invalidated) = match from_json(key, &meta.metadata)? {
            TagTarget::Manifest {
                digest,
                seen: Some(seen),
                invalidated,
                ..
            } => (Some(Sighting { digest, seen }), invalidated.is_some()),
            // A tag that was pushed before the name was mirrored, or a tombstone: it says nothing
            // about the upstream.
            TagTarget::Manifest { seen: None, .. } | TagTarget::Tombstone { .. } => (None, false),
        };
        Ok(StoredTag {
            etag: Some(meta.etag),
            sighting,
            is_invalidated,
        })
    }
}
