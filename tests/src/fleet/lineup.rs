//! The services that can be viewed: the real Freeview line-up of London, from
//! `tests/fixtures/freeview_london.csv`, and how each of them is financed.

use anyhow::{Context as _, bail};
use returnpath_shared::wire::Channel;

use super::chance::Chance;

const LONDON: &str = include_str!("../../fixtures/freeview_london.csv");

/// The columns that are read by their place.
const HEADER: &str = "network_id,service_id,name,xmltv_id,kind";

/// Who is viewed most, by the line-up's names; the others follow in the order
/// of the line-up.
const MOST_VIEWED: [&str; 10] = [
    "BBC ONE Lon HD",
    "ITV1 HD",
    "BBC TWO HD",
    "Channel 4 HD",
    "5 HD",
    "BBC ONE Lon",
    "ITV1",
    "BBC NEWS",
    "ITV3",
    "CBeebies",
];

/// Channels that sell all day: their spots are the programme, and nobody
/// replaces them.
const SHOPPING: [&str; 12] = [
    "QVC",
    "QVC2",
    "TJC",
    "Gemporia",
    "Ideal World",
    "Jewellery Maker",
    "HobbyMaker",
    "Hobbycraft TV",
    "Must Have Ideas",
    "Shop On TV",
    "High Street TV",
    "On Demand 365",
];

/// The commercial public service channels, which may show less advertising.
const PUBLIC_SERVICE: [&str; 6] = ["ITV1", "ITV1 HD", "Channel 4", "Channel 4 HD", "5", "5 HD"];

/// How much advertising a service carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advertising {
    /// The BBC, radio, and channels that only sell.
    None,
    /// ITV1, Channel 4 and 5.
    PublicService,
    /// All other television.
    Commercial,
}

/// Pictures or only sound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceKind {
    /// Television.
    Television,
    /// Radio.
    Radio,
}

/// One service of the line-up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// DVB original network id.
    pub network_id: u16,
    /// DVB service id.
    pub service_id: u16,
    /// As shown to viewers.
    pub name: String,
    /// Television or radio.
    pub kind: ServiceKind,
    /// How it is financed.
    pub advertising: Advertising,
}

impl Service {
    /// As events name it. The line-up has no transport stream ids.
    #[must_use]
    pub fn channel(&self) -> Channel {
        Channel {
            network_id: self.network_id.into(),
            service_id: self.service_id.into(),
            ..Channel::default()
        }
    }
}

/// All services, in the order in which channel up and down go through them.
#[derive(Debug)]
pub struct Lineup {
    services: Vec<Service>,
    /// Sums of the shares of `ranked` up to each place, the last one the total.
    cumulated: Vec<f64>,
    /// Services from the most to the least viewed.
    ranked: Vec<usize>,
}

impl Lineup {
    /// Freeview as received in London.
    ///
    /// # Errors
    /// Never with the file as it is; says which line is wrong.
    pub fn london() -> anyhow::Result<Self> {
        Self::parse(LONDON)
    }

    fn parse(csv: &str) -> anyhow::Result<Self> {
        let mut lines = csv.lines();
        if lines.next() != Some(HEADER) {
            bail!("the line-up must begin with {HEADER}");
        }
        let services = lines
            .enumerate()
            .map(|(index, line)| {
                service(line).with_context(|| format!("line {} of the line-up", index + 2))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        if services.is_empty() {
            bail!("the line-up is empty");
        }
        let mut ranked: Vec<usize> = (0..services.len()).collect();
        ranked.sort_by_key(|index| {
            let place = MOST_VIEWED
                .iter()
                .position(|name| *name == services[*index].name);
            (place.unwrap_or(MOST_VIEWED.len()), *index)
        });
        // Zipf's law with exponent 1: the n-th service has 1/n of the share of
        // the first. The shape of real audiences, not a measurement of them.
        let mut total = 0.0;
        let cumulated = (1..=u32::try_from(ranked.len())?)
            .map(|place| {
                total += 1.0 / f64::from(place);
                total
            })
            .collect();
        Ok(Self {
            services,
            cumulated,
            ranked,
        })
    }

    /// The service with this number.
    ///
    /// # Panics
    /// When the number did not come from this line-up.
    #[must_use]
    pub fn service(&self, number: usize) -> &Service {
        &self.services[number]
    }

    /// What viewers call a channel; `None` for one that is not in the line-up.
    #[must_use]
    pub fn name(&self, channel: &Channel) -> Option<&str> {
        let mut services = self.services.iter();
        let found = services.find(|service| service.channel() == *channel);
        found.map(|service| service.name.as_str())
    }

    /// Channel up: the number after `number`, and from the last to the first.
    #[must_use]
    pub fn up(&self, number: usize) -> usize {
        (number + 1) % self.services.len()
    }

    /// What a viewer picks who knows what they want.
    pub fn pick(&self, chance: &mut Chance) -> usize {
        let total = self.cumulated.last().copied().unwrap_or_default();
        let wanted = chance.unit() * total;
        let place = self.cumulated.partition_point(|sum| *sum <= wanted);
        self.ranked[place.min(self.ranked.len() - 1)]
    }
}

fn service(line: &str) -> anyhow::Result<Service> {
    let [network_id, service_id, name, xmltv_id, kind] = line.split(',').collect::<Vec<_>>()[..]
    else {
        bail!("expected 5 columns: {HEADER}");
    };
    let kind = match kind {
        "tv" => ServiceKind::Television,
        "radio" => ServiceKind::Radio,
        other => bail!("kind must be tv or radio, not {other:?}"),
    };
    let is_bbc = ["BBC", "CBBC", "CBeebies"]
        .iter()
        .any(|prefix| xmltv_id.starts_with(prefix));
    let advertising = if kind == ServiceKind::Radio || is_bbc || SHOPPING.contains(&name) {
        Advertising::None
    } else if PUBLIC_SERVICE.contains(&name) {
        Advertising::PublicService
    } else {
        Advertising::Commercial
    };
    Ok(Service {
        network_id: network_id.parse().context("network_id")?,
        service_id: service_id.parse().context("service_id")?,
        name: name.to_owned(),
        kind,
        advertising,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_line_up_of_london_is_read_whole() {
        let lineup = Lineup::london().unwrap();
        assert_eq!(lineup.services.len(), 165);
        let of = |name: &str| {
            let found = lineup.services.iter().find(|service| service.name == name);
            found.unwrap().advertising
        };
        for name in MOST_VIEWED.iter().chain(&SHOPPING).chain(&PUBLIC_SERVICE) {
            of(name);
        }
        assert_eq!(of("BBC ONE Lon"), Advertising::None);
        assert_eq!(of("CBeebies HD"), Advertising::None);
        assert_eq!(of("BBC Radio 4"), Advertising::None);
        assert_eq!(of("QVC"), Advertising::None);
        assert_eq!(of("ITV1 HD"), Advertising::PublicService);
        assert_eq!(of("U&Dave"), Advertising::Commercial);
    }

    #[test]
    fn wrong_lines_are_named() {
        let error = |line: &str| {
            let error = Lineup::parse(&format!("{HEADER}\n1,2,a,,tv\n{line}\n")).unwrap_err();
            format!("{error:#}")
        };
        assert!(error("1,2,a").starts_with("line 3 of the line-up: expected 5 columns"));
        assert!(error("x,2,a,,tv").contains("network_id"));
        assert!(error("1,70000,a,,tv").contains("service_id"));
        assert!(error("1,2,a,,film").contains("tv or radio"));
        assert!(Lineup::parse("").is_err());
        assert!(Lineup::parse(HEADER).is_err());
    }

    #[test]
    fn channel_up_comes_by_every_service_and_viewers_prefer_some() {
        let lineup = Lineup::london().unwrap();
        let mut seen = BTreeSet::new();
        let mut number = 0;
        while seen.insert(number) {
            number = lineup.up(number);
        }
        assert_eq!((seen.len(), number), (165, 0));

        let mut chance = Chance::new(1);
        let mut picked = vec![0_u32; 165];
        for _ in 0..10_000 {
            picked[lineup.pick(&mut chance)] += 1;
        }
        let share = |name: &str| {
            let place = |service: &Service| service.name == name;
            picked[lineup.services.iter().position(place).unwrap()]
        };
        assert!(share("BBC ONE Lon HD") > share("ITV1 HD"));
        assert!(share("ITV1 HD") > 20 * share("Nolly Africa"));
    }
}
