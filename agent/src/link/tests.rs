use std::{io, net::SocketAddr};

use rcgen::{CertificateParams, DnType, KeyPair};
use returnpath_shared::{Epoch, Incarnation, Sequence};
use rumqttc::{ConnectionError, StateError, mqttbytes};
use rustls::{RootCertStore, pki_types::PrivateKeyDer};
use tokio::net::TcpListener;

use super::*;
use crate::{clock::TrustedTime, identity::Identity};

fn link(brokers: &[SocketAddr]) -> Link {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    parameters
        .distinguished_name
        .push(DnType::CommonName, "box-1");
    let certificate = parameters.self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let identity = Identity {
        device: "box-1".parse().unwrap(),
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        roots: Arc::new(roots),
    };
    let brokers: Vec<BrokerAddress> = brokers
        .iter()
        .map(|address| address.to_string().parse().unwrap())
        .collect();
    let config = LinkConfig {
        device: identity.device.clone(),
        brokers: brokers.into(),
        tls: client_config(&identity, TrustedTime::new(0)).unwrap(),
        keep_alive: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(1),
        acknowledgement_timeout: Duration::from_secs(5),
        in_flight_max: 4,
        listens_to: ListensTo::default(),
    };
    Link::new(config, some_batch().epoch)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn closed(link: &mut Link) -> CloseReason {
    let event = link.next().await;
    let LinkEvent::Closed(reason) = event else {
        panic!("{event:?}");
    };
    reason
}

fn some_batch() -> BatchId {
    BatchId {
        epoch: Epoch {
            incarnation: Incarnation::new(1).unwrap(),
            start: 1,
        },
        sequence: Sequence(1),
    }
}

#[test]
fn nobody_at_the_address_ends_the_attempt_and_another_can_begin() {
    runtime().block_on(async {
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = unused.local_addr().unwrap();
        drop(unused);
        let mut link = link(&[address]);
        for attempt in 0..3 {
            link.connect(attempt);
            let reason = closed(&mut link).await;
            assert!(matches!(reason, CloseReason::Failed(_)), "{reason:?}");
            assert!(!reason.is_by_broker());
        }
    });
}

#[test]
fn a_broker_that_says_nothing_is_given_up() {
    runtime().block_on(async {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut link = link(&[silent.local_addr().unwrap()]);
        link.connect(0);
        let accepted = silent.accept().await.unwrap();
        let reason = closed(&mut link).await;
        assert!(!link.is_connected(), "{reason:?}");
        drop(accepted);
    });
}

#[test]
fn a_new_attempt_silences_the_one_before() {
    runtime().block_on(async {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed_address = unused.local_addr().unwrap();
        drop(unused);
        let mut link = link(&[closed_address, silent.local_addr().unwrap()]);
        link.connect(0);
        link.connect(1);
        let (mut stream, _) = silent.accept().await.unwrap();
        let mut hello = [0];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut hello)
            .await
            .unwrap();
        assert_eq!(hello, [0x16], "a TLS handshake");
        drop(stream);
        // One end, of the second attempt; the first one's is not told.
        let _reason = closed(&mut link).await;
        assert!(link.notices.try_recv().is_err());
    });
}

#[test]
fn nothing_is_taken_while_not_connected() {
    runtime().block_on(async {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut link = link(&[silent.local_addr().unwrap()]);
        let publish = |link: &mut Link| link.publish(some_batch(), Lane::Live, Bytes::new());
        assert_eq!(publish(&mut link), Err(PublishError::Down));
        link.connect(0);
        assert_eq!(publish(&mut link), Err(PublishError::Down));
    });
}

#[test]
fn a_broker_that_hangs_up_without_a_word_is_known_to_have_ended_it() {
    runtime().block_on(async {
        let (mut end, near) = tokio::io::duplex(64);
        drop(near);
        let read = tokio::io::AsyncReadExt::read_u8(&mut end).await;
        for error in [
            ConnectionError::Io(read.unwrap_err()),
            ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::Io(
                io::ErrorKind::UnexpectedEof.into(),
            ))),
            ConnectionError::MqttState(StateError::Io(io::ErrorKind::ConnectionReset.into())),
            ConnectionError::MqttState(StateError::ConnectionAborted),
        ] {
            let reason = connection::classify(&error);
            assert!(matches!(reason, CloseReason::Dropped), "{reason:?}");
            assert!(reason.is_by_broker());
        }
        let refused = ConnectionError::Io(io::ErrorKind::ConnectionRefused.into());
        assert!(!connection::classify(&refused).is_by_broker());
    });
}
