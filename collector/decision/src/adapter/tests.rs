//! What configurations are refused, and by which key.

use alloc::{
    format,
    string::{String, ToString as _},
};

use toml::{Table, Value};

use super::{ParametersAdapter, ParametersConfig};

const GOOD: &str = include_str!("../../tests/fixtures/aggregators/north/adapter.toml");

/// Reads a configuration as the shell does, and says what is wrong with it.
fn read(table: Table) -> Result<ParametersAdapter, String> {
    let config: ParametersConfig = serde_path_to_error::deserialize(Value::Table(table))
        .map_err(|error| format!("{}: {}", error.path(), error.inner().message()))?;
    ParametersAdapter::new(config, |name| (name == "api_key").then_some("hush"))
        .map_err(|error| error.to_string())
}

/// The good configuration with `change` laid over it, key by key.
fn changed(change: &str) -> Result<ParametersAdapter, String> {
    let mut table: Table = toml::from_str(GOOD).unwrap();
    lay_over(&mut table, toml::from_str(change).unwrap());
    read(table)
}

fn lay_over(under: &mut Table, over: Table) {
    for (name, value) in over {
        match (under.get_mut(&name), value) {
            (Some(Value::Table(under)), Value::Table(over)) => lay_over(under, over),
            (_, value) => {
                under.insert(name, value);
            }
        }
    }
}

#[test]
fn the_example_is_a_configuration() {
    let table: Table = toml::from_str(GOOD).unwrap();
    let config: ParametersConfig = Value::Table(table.clone()).try_into().unwrap();
    assert_eq!(config.secrets(), ["api_key"]);
    assert_eq!(config.sees().len(), 9);
    read(table).unwrap();
}

#[test]
fn needed_keys_are_named_when_they_are_absent() {
    for (tables, key) in [
        (&[] as &[&str], "method"),
        (&[], "url"),
        (&[], "sees"),
        (&[], "response"),
        (&["response"], "offers"),
        (&["response"], "offer"),
        (&["response", "offer"], "creative_id"),
        (&["response", "offer"], "url"),
        (&["response", "offer"], "media_type"),
        (&["response", "offer"], "duration"),
    ] {
        let mut table: Table = toml::from_str(GOOD).unwrap();
        let mut within = &mut table;
        for name in tables {
            within = within[*name].as_table_mut().unwrap();
        }
        within.remove(key).unwrap();
        let error = read(table).unwrap_err();
        assert!(
            error.ends_with(&format!("missing field `{key}`")),
            "{key}: {error}"
        );
    }
}

#[test]
fn a_configuration_that_cannot_be_is_refused_by_its_key() {
    for (change, expected) in [
        ("methode = 'GET'", "methode: unknown field"),
        (
            "method = 'PUT'",
            "method: unknown variant `PUT`, expected `GET` or `POST`",
        ),
        (
            "url = 'ads.example'",
            "url: expected a URL such as https://ads.example/v1",
        ),
        ("url = 'http://ads.example/'", "url: expected an https URL"),
        (
            "url = 'https://u:p@ads.example/'",
            "url: expected a URL without user name or password",
        ),
        (
            "url = 'https://ads.example/#x'",
            "url: expected a URL without fragment",
        ),
        (
            "sees = ['device.id']",
            "sees[0]: \"device.id\" is no field; expected one of channel.network_id, ",
        ),
        ("method = 'GET'", "body: expected none with GET; use POST"),
        (
            "query.x = { field = 'box.model' }",
            "query.x.field: expected a field that `sees` names, and box.model is not",
        ),
        (
            "query.x = { field = 'nothing' }",
            "query.x.field: \"nothing\" is no field",
        ),
        (
            "query.x = 1.5",
            "query.x: invalid type: floating point `1.5`, expected a text, a whole number",
        ),
        (
            "query.x = [1]",
            "query.x: invalid type: sequence, expected a text, a whole number",
        ),
        (
            "query.x = {}",
            "query.x: expected exactly one of field, secret and value",
        ),
        (
            "query.x = { field = 'break.id', secret = 'api_key' }",
            "query.x: expected exactly one of field, secret and value",
        ),
        (
            "query.x = { field = 'break.id', fmt = 'hex' }",
            "query.x.fmt: unknown field `fmt`",
        ),
        (
            "query.x = { field = 'break.id', format = 'octal' }",
            "query.x.format: unknown variant `octal`",
        ),
        (
            "query.x = { field = 'break.id', required = true, otherwise = 'x' }",
            "query.x: a required field has no otherwise",
        ),
        (
            "query.x = { field = 'break.id', otherwise = 1.5 }",
            "query.x.otherwise: invalid type: floating point",
        ),
        (
            "query.x = { secret = 'api_key', required = true }",
            "query.x: format, required and otherwise go with a field",
        ),
        (
            "query.x = { value = 'x', prefix = 'y' }",
            "query.x: prefix goes with a field or a secret",
        ),
        (
            "query.x = { value = ['x'] }",
            "query.x.value: expected a text, a whole number, or true or false",
        ),
        (
            "query.x = { secret = 'other' }",
            "query.x.secret: expected a secret that is given; other is not",
        ),
        (
            "headers.'x y' = 'z'",
            "headers.x y: expected a header's name such as x-api-key",
        ),
        (
            "headers.'' = 'z'",
            "headers.: expected a header's name such as x-api-key",
        ),
        (
            "headers.'x-ü' = 'z'",
            "headers.x-ü: expected a header's name such as x-api-key",
        ),
        (
            "headers.'x:' = 'z'",
            "headers.x:: expected a header's name such as x-api-key",
        ),
        (
            "headers.Host = 'z'",
            "headers.Host: expected a header that neither the connection nor the body decides",
        ),
        (
            "headers.accept-encoding = 'gzip'",
            "headers.accept-encoding: expected a header that neither",
        ),
        (
            "headers.X-Request-Id = 'z'",
            "headers.x-request-id: expected each name once, in whatever case",
        ),
        (
            "headers.x = \"a\\r\\nb\"",
            "headers.x: expected visible ASCII without spaces around it",
        ),
        (
            "headers.x = ' a'",
            "headers.x: expected visible ASCII without spaces around it",
        ),
        (
            "headers.x = { field = 'break.id', prefix = \"\\n\" }",
            "headers.x.prefix: expected visible ASCII",
        ),
        (
            "body.x = 1",
            "body.x: \"x\": expected a JSON pointer such as /ads/0/url",
        ),
        (
            "body.'/a~2' = 1",
            "body./a~2: \"/a~2\": expected a JSON pointer",
        ),
        (
            "body.'' = 1",
            "body.: expected a pointer to a member, such as /slot/id",
        ),
        (
            "body.'/viewer' = 1",
            "body./viewer: expected no pointer below that of another value",
        ),
        (
            "body.'/list/1' = 1",
            "body./list: expected names alone, or places of a list from 0 without gaps",
        ),
        (
            "body.'/break/slots/name' = 1",
            "body./break/slots: expected names alone, or places of a list",
        ),
        (
            "response.offers = 'ads'",
            "response.offers: \"ads\": expected a JSON pointer such as /ads/0/url",
        ),
        (
            "response.offer_statuses = []",
            "response.offer_statuses: expected at least one status",
        ),
        (
            "response.offer_statuses = [100]",
            "response.offer_statuses: expected statuses from 200 to 599",
        ),
        (
            "response.no_bid_statuses = [200]",
            "response.no_bid_statuses: expected other statuses than offer_statuses",
        ),
        (
            "response.no_bid_statuses = [70000]",
            "response.no_bid_statuses[0]: invalid value: integer `70000`, expected u16",
        ),
        (
            "response.offer.adomain = '/x'",
            "response.offer.adomain: unknown field `adomain`",
        ),
        (
            "response.offer.offer_id = 7",
            "response.offer.offer_id: invalid type: integer `7`, expected a JSON pointer",
        ),
        (
            "response.offer.offer_id = {}",
            "response.offer.offer_id: expected pointer, otherwise, or both",
        ),
        (
            "response.offer.duration.unit = 'min'",
            "response.offer.duration.unit: unknown variant `min`, expected `ms` or `s`",
        ),
        (
            "response.offer.duration.otherwise = 'long'",
            "response.offer.duration: otherwise: expected a duration such as 30",
        ),
        (
            "response.offer.price.unit = 'eur'",
            "response.offer.price.unit: unknown variant `eur`, expected one of `cpm`, `cpm_cents`, `cpm_micros`",
        ),
        (
            "response.offer.price.otherwise = -1",
            "response.offer.price: otherwise: expected a price such as 2",
        ),
    ] {
        let error = changed(change).expect_err(change);
        assert!(
            error.starts_with(expected),
            "{change}\ngave     {error}\nexpected {expected}"
        );
    }
}

#[test]
fn more_parameters_than_the_bound_are_refused() {
    let many: String = (0..65).map(|index| format!("p{index} = 1\n")).collect();
    let error = changed(&format!("[query]\n{many}")).unwrap_err();
    assert_eq!(error, "query: expected at most 64 parameters");
}

#[test]
fn a_secret_that_no_header_can_carry_is_refused_without_being_said() {
    let table: Table = toml::from_str(GOOD).unwrap();
    let config: ParametersConfig = Value::Table(table).try_into().unwrap();
    let error = ParametersAdapter::new(config, |_| Some("hush\n")).unwrap_err();
    assert_eq!(error.key, "headers.authorization.secret");
    assert!(!format!("{error} {error:?}").contains("hush"));
}
