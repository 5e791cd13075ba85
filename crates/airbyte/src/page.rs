//! Paginators: which page comes next, and how a request asks for it.

mod strategy;

use linkspan_core::Result;
use serde_json::{Map, Value};

use crate::{
    component::Component,
    decode::Decoder,
    inject::{Inject, Part, RequestOption, combine},
    python::text,
    truth::is_true,
    wiring::Build,
};

pub use strategy::PageEnd;
use strategy::Strategy;

pub struct Paginator {
    strategy: Strategy,
    size_option: Option<RequestOption>,
    token: TokenPlace,
}

enum TokenPlace {
    Nowhere,
    /// The token is the next request's path or whole address.
    Path,
    Option(RequestOption),
}

/// Refuses two options for one place: the reference says so before it asks for a page.
fn apart(size: &RequestOption, token: &RequestOption, build: &Build) -> Result<()> {
    if size.inject_into() != token.inject_into() {
        return Ok(());
    }
    let parts = [(size, 0), (token, 1)].map(|(option, value)| {
        let mut fields = Map::new();
        option.inject(&mut fields, value.into(), build).map(|()| Part::Fields(fields))
    });
    combine(parts.into_iter().collect::<Result<Vec<_>>>()?, size.inject_into().merge()).map(|_| ())
}

impl Paginator {
    /// The paginator of a component; one page where there is none. `records` is the way to the records, where it is known.
    pub fn build(component: Option<&Component<'_>>, decoder: &Decoder, records: Option<&[String]>, build: &Build) -> Result<Option<Self>> {
        let Some(component) = component else { return Ok(None) };
        match component.kind() {
            "NoPagination" => Ok(None),
            "DefaultPaginator" if !decoder.may_page() => Err(component
                .error("bodies that this decoder reads cannot be paged")
                .fix("remove the paginator, or use JsonDecoder or XmlDecoder")),
            "DefaultPaginator" => Self::default_paginator(component, records, build).map(Some),
            _ => Err(component.unknown_kind()),
        }
    }

    fn default_paginator(component: &Component<'_>, records: Option<&[String]>, build: &Build) -> Result<Self> {
        let strategy = Strategy::build(&component.required("pagination_strategy")?, records, build)?;
        let size_option = component.child("page_size_option")?.map(|c| RequestOption::build(&c)).transpose()?;
        if size_option.is_some() && strategy.page_size(build)?.is_none_or(|size| size == 0) {
            return Err(component.error("page_size_option needs a pagination strategy with a page_size"));
        }
        let token = match component.child("page_token_option")? {
            None => TokenPlace::Nowhere,
            Some(option) if option.kind() == "RequestPath" => TokenPlace::Path,
            Some(option) => TokenPlace::Option(RequestOption::build(&option)?),
        };
        if let (Some(size), TokenPlace::Option(token)) = (&size_option, &token) {
            apart(size, token, build).map_err(|e| e.with("path", component.path()))?;
        }
        Ok(Self { strategy, size_option, token })
    }

    /// The token of the first request, where it has one.
    pub fn initial(&self) -> Option<Value> {
        self.strategy.initial()
    }
    pub fn page_size(&self, build: &Build) -> Result<Option<i64>> {
        self.strategy.page_size(build)
    }
    /// Whether pages may be asked for with another size on the way.
    pub fn may_shrink(&self) -> bool {
        self.strategy.may_shrink()
    }
    /// The token of the page after this one; `None` at the end.
    pub fn next(&self, end: &PageEnd<'_>, build: &Build) -> Result<Option<Value>> {
        Ok(self.strategy.next(end, build)?.filter(is_true))
    }
    /// Where the next request goes, when the token says that.
    pub fn path(&self, token: Option<&Value>) -> Option<String> {
        match (&self.token, token) {
            (TokenPlace::Path, Some(token)) if is_true(token) => Some(text(token)),
            _ => None,
        }
    }
    /// What the paginator adds to one part of a request.
    pub fn options(&self, into: Inject, token: Option<&Value>, size: Option<i64>, build: &Build) -> Result<Map<String, Value>> {
        let mut options = Map::new();
        if let (TokenPlace::Option(option), Some(token)) = (&self.token, token)
            && option.inject_into() == into
        {
            option.inject(&mut options, token.clone(), build)?;
        }
        if let Some(option) = self.size_option.as_ref().filter(|o| o.inject_into() == into) {
            let size = size.map_or_else(|| self.strategy.page_size(build), |s| Ok(Some(s)))?;
            if let Some(size) = size.filter(|s| *s != 0) {
                option.inject(&mut options, size.into(), build)?;
            }
        }
        Ok(options)
    }
}
