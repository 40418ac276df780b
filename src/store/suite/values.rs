//! The checks of values and of bytes.

use std::time::Duration;

use crate::{
    digest::Algorithm,
    store::{
        Bytes, Values,
        suite::check::{Check, CheckOutcome, equal, pattern, text},
    },
};

/// Runs every check of [`Values`] on an empty store of values, and every check of [`Bytes`] on its
/// kind of bytes.
pub async fn run_values<V: Values>(values: &V) -> Vec<CheckOutcome> {
    vec![
        CheckOutcome {
            name: "keeps_values",
            result: keeps_values(values).await,
        },
        CheckOutcome {
            name: "cuts_and_joins_bytes",
            result: cuts_and_joins_bytes::<V::Bytes>(),
        },
        CheckOutcome {
            name: "digests_bytes",
            result: digests_bytes::<V::Bytes>().await,
        },
        CheckOutcome {
            name: "compresses_bytes",
            result: compresses_bytes::<V::Bytes>().await,
        },
    ]
}

async fn keeps_values<V: Values>(values: &V) -> Check {
    const HOUR: Duration = Duration::from_secs(3_600);
    let read = async |key| {
        Ok::<_, String>(
            values
                .get(key)
                .await
                .map_err(text)?
                .map(|value| value.to_vec()),
        )
    };
    equal("nothing", read("values/none").await?, None)?;
    for bytes in [b"".to_vec(), b"some".to_vec(), pattern(100_000)] {
        let value = V::Bytes::copy_from(&bytes);
        values.put("values/a", value, HOUR).await.map_err(text)?;
        equal("what was written", read("values/a").await?, Some(bytes))?;
    }
    values.delete("values/a").await.map_err(text)?;
    values.delete("values/none").await.map_err(text)?;
    equal("what was deleted", read("values/a").await?, None)
}

fn cuts_and_joins_bytes<Y: Bytes>() -> Check {
    let bytes = Y::copy_from(b"0123456789");
    equal("length", bytes.len(), 10)?;
    for (first, end, expected) in [
        (0, 10, "0123456789"),
        (3, 6, "345"),
        (9, 10, "9"),
        (4, 4, ""),
        (8, 100, "89"),
        (10, 20, ""),
    ] {
        let cut = bytes.slice(first, end);
        equal("cut", cut.to_vec(), expected.as_bytes().to_vec())?;
        equal("its length", cut.len(), expected.len() as u64)?;
    }
    let joined = bytes.slice(2, 4).prefixed(b"ab");
    equal("joined", joined.to_vec(), b"ab23".to_vec())?;
    equal("empty", Y::copy_from(b"").is_empty(), true)
}

async fn digests_bytes<Y: Bytes>() -> Check {
    let bytes = pattern(100_000);
    let cut = Y::copy_from(&bytes).slice(10, 90_000);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let expected = algorithm.digest(bytes.get(10..90_000).unwrap_or_default());
        equal("digest", cut.digest(algorithm).await, Ok(expected))?;
    }
    Ok(())
}

async fn compresses_bytes<Y: Bytes>() -> Check {
    for bytes in [
        b"".to_vec(),
        b"x".to_vec(),
        pattern(50_000),
        vec![7; 300_000],
    ] {
        let length = bytes.len() as u64;
        let compressed = Y::copy_from(&bytes).compress().await.map_err(text)?;
        if length == 300_000 {
            equal("smaller", compressed.len() < 3_000, true)?;
        }
        let again = compressed.decompress(length).await.map_err(text)?;
        equal("again", again.to_vec() == bytes, true)?;
        for wrong in [length + 1, length / 2]
            .into_iter()
            .filter(|wrong| *wrong != length)
        {
            let failed = compressed.decompress(wrong).await.is_err();
            equal("of another length", failed, true)?;
        }
        let broken = compressed.slice(0, compressed.len() / 2);
        equal("cut short", broken.decompress(length).await.is_err(), true)?;
    }
    Ok(())
}
