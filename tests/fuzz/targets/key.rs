//! Keys of the bucket: every text parses to a key that is displayed as that text.

use strata::{
    digest::{Algorithm, Digest},
    name::{Name, Tag},
    store::key::{Key, Prefix},
    upload::{ExtentName, UploadId},
};

use crate::input::Input;

pub(crate) const WORDS: &[&[u8]] = &[
    b"blobs/sha256/",
    b"sweep/marks/",
    b"sweep/claims/",
    b"refs/",
    b"layers/",
    b"extents/",
    b"uploads/",
    b"repositories/a/_tags/",
    b"repositories/a/_manifests/sha256/",
    b"repositories/a/_referrers/sha256/",
    b"/_sha256/",
    b"sha256-",
    b"sha512",
    b"catalog/",
    b"fills/sha256/",
    b"indexing/sha256/",
    b"/spans/",
    b"/_grants/",
    b"/_link",
];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let digest = Algorithm::Sha256.digest(b"x");
    let other = Algorithm::Sha512.digest(b"y");
    let name: Name = "a/b-c".parse().unwrap();
    let id = UploadId::new([7; 16]);
    let keys = keys(&digest, &other, &name, &"v1".parse().unwrap(), id, 12);
    let mut seeds: Vec<_> = keys
        .iter()
        .map(|key| [b"\x00", key.to_string().as_bytes()].concat())
        .collect();
    seeds.push(b"\x00layers/sha256/00/spans/1".to_vec());
    seeds.push(b"\x01\x02\x03some/name-of.a_repository\0v1.2\0".to_vec());
    seeds
}

/// A key of each kind.
fn keys(digest: &Digest, other: &Digest, name: &Name, tag: &Tag, id: UploadId, number: u32) -> Vec<Key> {
    vec![
        Key::blob(digest),
        Key::extent(&ExtentName::new(id, u64::from(number), "ff")),
        Key::grant(digest, name, "00"),
        Key::link(other, name),
        Key::manifest(name, digest),
        Key::tag(name, tag),
        Key::referrer(name, digest, other, "7"),
        Key::catalog(name),
        Key::step(name, id, number),
        Key::fill(other, name),
        Key::index(digest),
        Key::pages(digest),
        Key::stored_spans(digest, number),
        Key::indexing(other),
        Key::mark(other),
        Key::claim(name, digest),
        Key::SweepCursor,
        Key::Inventory,
        Key::ScrubCursor,
        Key::Passes,
    ]
}

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    if input.bool() {
        return made(&mut input);
    }
    let text = input.text();
    let key = Key::parse(&text);
    assert_eq!(key.to_string(), text);
    if let Some(digest) = key.digest() {
        assert!(text.contains(digest.encoded()), "{key:?}");
    }
    if let Some(upload) = key.upload() {
        assert!(text.contains(&upload.to_string()), "{key:?}");
    }
    if let Key::Extent(name) = &key {
        let place = name.place().map(|place| place.to_string());
        assert!(place.is_none_or(|place| text.contains(&place)), "{key:?}");
    }
}

/// A key that was made parses to itself, and begins with the prefixes that list it.
fn made(input: &mut Input<'_>) {
    let digest = input.pick(&Algorithm::ALL).digest(&[input.byte()]);
    let other = input.pick(&Algorithm::ALL).digest(&[input.byte(), 1]);
    let mut random = [0; 16];
    random.fill_with(|| input.byte());
    let id = UploadId::new(random);
    let number = (input.word() as u32) << input.below(16);
    let text = input.text();
    let mut parts = text.split('\0');
    let (Ok(name), Ok(tag)) = (
        parts.next().unwrap_or_default().parse::<Name>(),
        parts.next().unwrap_or("v1").parse::<Tag>(),
    ) else {
        return;
    };
    let keys = keys(&digest, &other, &name, &tag, id, number);
    for key in &keys {
        assert_eq!(Key::parse(&key.to_string()), *key);
    }
    let listed = |prefix: Prefix<'_>| {
        let begin = prefix.to_string();
        let listed = keys.iter().filter(|key| key.to_string().starts_with(&begin));
        let listed: Vec<&Key> = listed.collect();
        assert!(listed.iter().all(|key| key.to_string() < prefix.end()), "{prefix:?}");
        listed
    };
    assert!(matches!(listed(Prefix::Grants(&digest, &name))[..], [Key::Grant { .. }]));
    assert!(matches!(listed(Prefix::Tags(&name))[..], [Key::Tag { .. }]));
    assert!(matches!(listed(Prefix::Manifests(&name))[..], [Key::Manifest { .. }]));
    assert!(matches!(listed(Prefix::Referrer(&name, &digest, &other))[..], [Key::Referrer { .. }]));
    assert!(matches!(listed(Prefix::Steps(&name, id))[..], [Key::Step { .. }]));
    assert!(matches!(listed(Prefix::ExtentsOf(id))[..], [Key::Extent(_)]));
    assert!(matches!(
        listed(Prefix::Layer(&digest))[..],
        [Key::Index(_), Key::Pages(_), Key::StoredSpans { .. }]
    ));
}
