//! Sweeping what repositories have beside blobs: referrers without a manifest go. Manifests are counted, and noted for the sweep of grants.
//!
//! A tombstone of a tag stays: nothing deletes it only if it still is one, and a tag that was just moved from it would be lost. So does a
//! repository's entry in the catalogue, which a push looks at before it writes.

use super::{
    Host, Inventory, Streams, Values,
    filter::Filter,
    key,
    work::{Action, Halt, Listing, Removal, What, Work, Youngest},
};
use crate::{digest::Digest, name::Name, store::Meta};

/// What a key of `repositories/` is.
enum Held {
    Manifest(Digest),
    /// The entry of this manifest.
    Referrer(Digest),
    Tag,
}

impl<S: Streams, W: Values<Bytes = S::Bytes>, H: Host<Body = S::Body>> Work<'_, S, W, H> {
    /// Goes through what repositories have, from a key on.
    pub(super) async fn sweep_holdings(
        &self,
        after: &mut Option<String>,
        manifests: &mut Filter,
        inventory: &mut Inventory,
    ) -> Result<(), Halt> {
        let mut listing = Listing::new(key::REPOSITORIES, after.clone(), false);
        // The entries of one manifest, which stand side by side: what their keys have in common, and the youngest.
        let mut entries: Option<(String, Youngest)> = None;
        let walked = async {
            while let Some((key, meta)) = listing.next(self).await? {
                self.require_more()?;
                if let Some((name, held)) = parse(&key)
                    && self
                        .sweep_holding(&key, &meta, &name, &held, manifests, inventory)
                        .await?
                {
                    let entry = Youngest::new(&key, &meta, self.is_old(&meta));
                    let common = key.rsplit_once('-').map_or("", |(common, _)| common);
                    match &mut entries {
                        Some((same, youngest)) if same == common => {
                            if let Some(older) = youngest.surpass(entry) {
                                let why = "its manifest has a younger one";
                                // What is said of one manifest is as long each time.
                                self.delete_referrer(&older, meta.size, why).await?;
                            }
                        }
                        other => *other = Some((common.to_owned(), entry)),
                    }
                }
                *after = Some(key);
            }
            Ok(())
        };
        let walked: Result<(), Halt> = walked.await;
        let flushed = self.flush().await;
        self.pass();
        walked.and(flushed)
    }

    /// Looks at one key. Whether it is an entry among referrers that stays.
    async fn sweep_holding(
        &self,
        key: &str,
        meta: &Meta,
        name: &Name,
        held: &Held,
        manifests: &mut Filter,
        inventory: &mut Inventory,
    ) -> Result<bool, Halt> {
        match held {
            Held::Manifest(_) if self.is_missed(key) => {}
            Held::Manifest(digest) => {
                manifests.insert(name, digest);
                inventory.manifests += 1;
                inventory.count(name, |holding| holding.manifests += 1);
            }
            Held::Tag if meta.size > 0 => {
                inventory.tags += 1;
                inventory.count(name, |holding| holding.tags += 1);
            }
            // A tombstone.
            Held::Tag => {}
            Held::Referrer(digest) => {
                // Its manifest is written after it, and looked for after it was listed.
                let is_gone = self.is_old(meta)
                    && !manifests.may_have(name, digest)
                    && !self.is_stored(name, digest).await?;
                if is_gone {
                    let why = "its manifest is not stored";
                    self.delete_referrer(key, meta.size, why).await?;
                }
                return Ok(!is_gone);
            }
        }
        Ok(false)
    }

    async fn delete_referrer(&self, key: &str, bytes: u64, why: &'static str) -> Result<(), Halt> {
        self.tell(Removal {
            action: Action::Delete,
            what: What::Referrer,
            key: key.to_owned(),
            bytes,
            why,
        });
        self.delete_soon(key).await
    }
}

/// What a key of `repositories/` names.
fn parse(key: &str) -> Option<(Name, Held)> {
    let (name, rest) = key.strip_prefix(key::REPOSITORIES)?.split_once("/_")?;
    let name = name.parse().ok()?;
    let (kind, rest) = rest.split_once('/')?;
    let held = match kind {
        "manifests" => Held::Manifest(rest.replacen('/', ":", 1).parse().ok()?),
        "referrers" => Held::Referrer(key::referrer_digest(rest.rsplit_once('/')?.1)?),
        "tags" => Held::Tag,
        _ => return None,
    };
    Some((name, held))
}
