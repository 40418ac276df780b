//! Lists doubtful rights: those that an older version gave because an upstream named a blob.
//!
//! Two listings, one after the other.
//! The first has repositories with tags or manifests of an upstream that today's settings don't
//! place under one.
//! There the grants of older versions count like those of pushes.
//! The second has blobs on which a mirrored repository has grants of an older version, and which
//! other repositories hold too.
//! One of these may have mounted the blob from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    error::Error,
    name::Name,
    platform::Platform,
    registry::upkeep::{
        Upkeep,
        on_demand::{encode_cursor, invalid_query, parse_cursor},
    },
    store::{
        Meta,
        bucket::Walk,
        document::{Linked, Reason, Right, Stored, TagTarget},
        key::{Key, Prefix},
    },
    time::Timestamp,
};

/// The cursor: the listing, and the key to resume after.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "place")]
enum RightsCursor {
    Repositories { after: Option<Key> },
    Blobs { after: Option<Key> },
}

/// The repositories that hold one blob, each with the time of its oldest grant or link.
#[derive(Default)]
struct Holds {
    digest: Option<Digest>,
    /// Mirrored repositories with grants or a link that gave a right in older versions.
    doubtful: BTreeMap<Name, Timestamp>,
    /// Repositories of this registry's own that have a right to the blob.
    elsewhere: BTreeMap<Name, Timestamp>,
    is_cut: bool,
}

/// Rights that are doubtful, as far as one request has found them.
#[derive(Debug, Serialize)]
pub(in crate::registry) struct DoubtfulRights {
    #[serde(rename = "finished")]
    is_finished: bool,
    operations: u32,
    repositories: Vec<DoubtfulRepository>,
    blobs: Vec<DoubtfulBlob>,
    /// Where the next request resumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// A repository with tags or manifests of an upstream.
#[derive(Debug, Serialize)]
struct DoubtfulRepository {
    name: Name,
    why: String,
}

/// A blob that a mirrored repository may have had no right to, and that other repositories hold.
#[derive(Debug, Serialize)]
struct DoubtfulBlob {
    digest: Digest,
    doubtful: Vec<RightsHolder>,
    elsewhere: Vec<RightsHolder>,
    #[serde(rename = "complete")]
    is_complete: bool,
}

/// A repository, and the time of its oldest grant or link.
#[derive(Debug, Serialize)]
struct RightsHolder {
    name: Name,
    since: Timestamp,
}

/// The findings of one request.
#[derive(Default)]
struct Findings {
    repositories: Vec<DoubtfulRepository>,
    blobs: Vec<DoubtfulBlob>,
    /// The number of entries in both lists.
    count: usize,
    operations: u32,
}

/// The most pages, of a thousand keys each, that a request lists.
const MAX_PAGES: u32 = 200;

/// A request ends after the page in which it reaches this many entries.
const MAX_FOUND: usize = 1_000;

/// The most repositories named for a blob, of each kind. `/v2/_strata/blobs/<digest>` names all.
const MAX_HOLDERS: usize = 100;

/// Operations reserved from the budget of a request.
const OTHERS: u32 = 10;

impl<P: Platform> Upkeep<P> {
    /// Lists doubtful rights, within the budget of one request.
    /// The next request resumes at the cursor.
    pub(in crate::registry) async fn doubtful_rights(
        &self,
        cursor: Option<&str>,
    ) -> Result<DoubtfulRights, Error> {
        let mut place = match cursor.map(parse_cursor) {
            None => RightsCursor::Repositories { after: None },
            Some(Some(place)) => place,
            Some(None) => {
                let found = "query parameter cursor is not one of this listing; take it from the last response";
                return Err(invalid_query(found));
            }
        };
        let most = self.settings.subrequests.saturating_sub(OTHERS);
        let most = most.clamp(1, MAX_PAGES);
        let mut found = Findings::default();
        let is_finished = loop {
            let is_done = match &mut place {
                RightsCursor::Repositories { after } => {
                    self.find_repositories(after, most, &mut found).await?
                }
                RightsCursor::Blobs { after } => self.find_blobs(after, most, &mut found).await?,
            };
            match (&place, is_done) {
                (_, false) => break false,
                (RightsCursor::Repositories { .. }, true) => {
                    place = RightsCursor::Blobs { after: None }
                }
                (RightsCursor::Blobs { .. }, true) => break true,
            }
            if found.operations >= most {
                break false;
            }
        };
        let cursor = (!is_finished).then(|| encode_cursor(&place));
        Ok(DoubtfulRights {
            is_finished,
            operations: found.operations,
            repositories: found.repositories,
            blobs: found.blobs,
            cursor: cursor.transpose()?,
        })
    }

    /// Finds repositories that have tags or manifests of an upstream and are not under one by
    /// today's settings.
    /// Returns whether the listing is complete.
    /// A repository that two requests share may be listed twice.
    async fn find_repositories(
        &self,
        after: &mut Option<Key>,
        most: u32,
        found: &mut Findings,
    ) -> Result<bool, Error> {
        let mut told: Option<Name> = None;
        let place = after.as_ref().map(Key::to_string);
        let mut walk = Walk::new(Prefix::Repositories, place, 1_000, true);
        while found.operations < most && found.count < MAX_FOUND {
            found.operations += 1;
            for (key, meta) in walk.next_page(&self.store).await? {
                if let Some((name, why)) = from_upstream(&key, &meta)
                    && told.as_ref() != Some(name)
                    && !self.grants.is_under_upstream(name)
                {
                    let name = name.clone();
                    told = Some(name.clone());
                    found.repositories.push(DoubtfulRepository { name, why });
                    found.count += 1;
                }
                *after = Some(key);
            }
            if walk.is_done() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds blobs that a mirrored repository has doubtful grants on, and that other repositories
    /// hold too.
    /// Returns whether the listing is complete.
    async fn find_blobs(
        &self,
        after: &mut Option<Key>,
        most: u32,
        found: &mut Findings,
    ) -> Result<bool, Error> {
        let mut holds = Holds::default();
        let mut read = after.clone();
        let began = after.clone();
        let place = after.as_ref().map(Key::to_string);
        let mut walk = Walk::new(Prefix::References, place, 1_000, true);
        while found.operations < most && found.count < MAX_FOUND {
            found.operations += 1;
            for (key, meta) in walk.next_page(&self.store).await? {
                let digest = key.digest();
                if digest != holds.digest {
                    found.tell(&mut holds);
                    // The previous request may have ended in the middle of this blob.
                    holds.is_cut = began.as_ref().and_then(Key::digest) == digest;
                    holds.digest = digest;
                    // The previous blob is complete, so a cursor may point here.
                    after.clone_from(&read);
                }
                self.note_hold(&mut holds, &key, &meta);
                read = Some(key);
            }
            if walk.is_done() {
                found.tell(&mut holds);
                *after = read;
                return Ok(true);
            }
        }
        if *after == began && read != began {
            // One request can't read all holders of this blob. Report what was read and resume
            // after it, or the listing would never advance.
            holds.is_cut = true;
            found.tell(&mut holds);
            *after = read;
        }
        Ok(false)
    }

    /// Sorts the repository of one grant or link into the holders of the blob.
    fn note_hold(&self, holds: &mut Holds, key: &Key, meta: &Meta) {
        let Some(name) = key.holder() else { return };
        let reason = serde_json::from_str(&meta.metadata);
        let is_link = matches!(key, Key::Link { .. });
        let to = if self.grants.is_under_upstream(&name) {
            let is_doubtful = if is_link {
                Linked::parse(&meta.metadata) != Some(Right::Filled)
            } else {
                matches!(reason, Ok(Reason::Upload | Reason::Manifest { .. }))
            };
            is_doubtful.then_some(&mut holds.doubtful)
        } else {
            let has_right =
                is_link || !matches!(reason, Ok(Reason::Claim | Reason::Mirrored { .. }));
            has_right.then_some(&mut holds.elsewhere)
        };
        let Some(to) = to else { return };
        if to.len() >= MAX_HOLDERS && !to.contains_key(&name) {
            holds.is_cut = true;
            return;
        }
        let since = to.entry(name).or_insert(meta.uploaded);
        *since = (*since).min(meta.uploaded);
    }
}

impl Findings {
    /// Reports a blob that has both doubtful and other holders.
    fn tell(&mut self, holds: &mut Holds) {
        let Holds {
            digest,
            doubtful,
            elsewhere,
            is_cut,
        } = std::mem::take(holds);
        let Some(digest) = digest.filter(|_| !doubtful.is_empty() && !elsewhere.is_empty()) else {
            return;
        };
        self.count += doubtful.len() + elsewhere.len();
        let listed = |holders: BTreeMap<Name, Timestamp>| {
            let listed = holders.into_iter();
            listed
                .map(|(name, since)| RightsHolder { name, since })
                .collect()
        };
        self.blobs.push(DoubtfulBlob {
            digest,
            doubtful: listed(doubtful),
            elsewhere: listed(elsewhere),
            is_complete: !is_cut,
        });
    }
}

/// The repository of a tag or manifest that was pulled from an upstream, and the evidence.
fn from_upstream<'k>(key: &'k Key, meta: &Meta) -> Option<(&'k Name, String)> {
    match key {
        Key::Tag { name, tag } => match serde_json::from_str(&meta.metadata) {
            Ok(TagTarget::Manifest { seen: Some(_), .. }) => {
                Some((name, format!("tag {tag} was pulled from an upstream")))
            }
            Ok(TagTarget::Manifest { seen: None, .. } | TagTarget::Tombstone { .. }) | Err(_) => {
                None
            }
        },
        Key::Manifest { name, digest } => {
            let stored: Stored = serde_json::from_str(&meta.metadata).ok()?;
            stored.mirrored.then(|| {
                let why = format!("manifest {digest} was pulled from an upstream");
                (name, why)
            })
        }
        _ => None,
    }
}
