use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;

use super::*;

const DAY_S: u64 = 86_400;

/// A broker's certificate valid from and to these days after the build, and a
/// verifier that trusts its authority.
fn world(from_day: i64, to_day: i64) -> (Verifier, CertificateDer<'static>) {
    let build = std::time::Duration::from_secs(crate::clock::build_unix_s());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let day = |day: i64| {
        let distance = std::time::Duration::from_secs(day.unsigned_abs() * DAY_S);
        if day < 0 {
            epoch + build - distance
        } else {
            epoch + build + distance
        }
    };
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).unwrap();
    let issuer = Issuer::new(authority, key);

    let mut broker = CertificateParams::new(["broker".to_owned()]).unwrap();
    broker.not_before = day(from_day);
    broker.not_after = day(to_day);
    broker.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let broker_key = KeyPair::generate().unwrap();
    let certificate = broker.signed_by(&broker_key, &issuer).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let time = TrustedTime::new(0);
    (Verifier { webpki, time }, certificate.der().clone())
}

/// What the verifier says when the box's clock stands `days` after the build.
fn verdict(
    verifier: &Verifier,
    certificate: &CertificateDer<'_>,
    name: &str,
    now_unix_s: u64,
) -> Result<(), Error> {
    let name = ServerName::try_from(name).unwrap();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_unix_s));
    verifier
        .verify_server_cert(certificate, &[], &name, &[], now)
        .map(drop)
}

fn is_expired(verdict: &Result<(), Error>) -> bool {
    matches!(
        verdict,
        Err(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        ))
    )
}

#[test]
fn before_the_clock_is_set_not_yet_valid_is_held_against_nobody() {
    for (from_day, to_day) in [(-10, 10), (5, 10), (300, 301)] {
        let (verifier, certificate) = world(from_day, to_day);
        for clock_unix_s in [0, 60, u64::from(u32::MAX)] {
            let verdict = verdict(&verifier, &certificate, "broker", clock_unix_s);
            assert_eq!(
                verdict,
                Ok(()),
                "{from_day}..{to_day}, clock at {clock_unix_s}"
            );
        }
    }
}

#[test]
fn before_the_clock_is_set_expired_is_judged_by_build_and_last_trusted_time() {
    let (verifier, certificate) = world(-10, -5);
    assert!(is_expired(&verdict(&verifier, &certificate, "broker", 0)));

    let (mut verifier, certificate) = world(-10, 10);
    let build_unix_s = crate::clock::build_unix_s();
    verifier.time = TrustedTime::new(build_unix_s + 9 * DAY_S);
    assert_eq!(verdict(&verifier, &certificate, "broker", 0), Ok(()));
    verifier.time = TrustedTime::new(build_unix_s + 11 * DAY_S);
    assert!(is_expired(&verdict(&verifier, &certificate, "broker", 0)));
}

#[test]
fn a_synchronised_clock_judges_both_ends() {
    let (verifier, certificate) = world(5, 10);
    let day = |day: u64| crate::clock::build_unix_s() + day * DAY_S;
    let observe = |unix_s: u64| {
        verifier
            .time
            .observe(i64::try_from(unix_s).unwrap() * 1_000, true)
    };
    observe(day(1));
    assert!(matches!(
        verdict(&verifier, &certificate, "broker", day(1)),
        Err(Error::InvalidCertificate(
            CertificateError::NotValidYetContext { .. }
        ))
    ));
    observe(day(7));
    assert_eq!(verdict(&verifier, &certificate, "broker", day(7)), Ok(()));
    observe(day(11));
    assert!(is_expired(&verdict(
        &verifier,
        &certificate,
        "broker",
        day(11)
    )));
}

#[test]
fn another_name_or_authority_is_refused_whatever_the_time() {
    let (verifier, certificate) = world(-10, 10);
    assert!(verdict(&verifier, &certificate, "other", 0).is_err());
    let (stranger, _) = world(-10, 10);
    assert!(verdict(&stranger, &certificate, "broker", 0).is_err());
}
