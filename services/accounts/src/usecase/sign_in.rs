//! What a session needs at its beginning.

use tandem_kernel::{Address, Code};
use tandem_proto::{
    accounts::{SignInRequest, SignInResponse, UpsertRequest},
    client,
};

use super::{Service, address, no_account};
use crate::{
    domain::profile::{self, Profile},
    error::Error,
    tables,
};

impl Service {
    /// Takes over what the token claims, and says what the plan allows. A claim that is empty leaves
    /// things as they are; a phone number that is no number, or another's, keeps nobody out.
    pub(crate) async fn sign_in(&self, claims: &SignInRequest) -> Result<SignInResponse, Error> {
        let user = address(&claims.user)?;
        let held = tables::load_account(&*self.store, &user).await?;
        let old = held.map(|h| h.value).filter(|p| !p.draft);
        match &old {
            Some(p) if p.closed => return Err(no_account(&user)),
            None if !self.config.create_on_sign_in => return Err(no_account(&user)),
            _ => {}
        }
        if !claims.plan.is_empty() && !self.config.plans.contains_key(&claims.plan) {
            let text = format!("the plan `{}` is not offered here", claims.plan);
            return Err(Error::refused(Code::NotEntitled, text));
        }
        let profile = self.take_over(&user, old.as_ref(), claims).await?;
        self.metrics.sign_ins.add(1);
        let plan = self.config.plans.get(&profile.plan);
        let brand = self
            .config
            .brands
            .get(&profile.brand)
            .cloned()
            .unwrap_or_default();
        Ok(SignInResponse {
            entitlements: plan.map(|p| p.entitlements.clone()).unwrap_or_default(),
            brand: Some(client::Brand {
                id: profile.brand.clone(),
                name: brand.name,
                support_url: brand.support_url,
            }),
            account: Some(profile.account(&user)),
        })
    }

    async fn take_over(
        &self,
        user: &Address,
        old: Option<&Profile>,
        claims: &SignInRequest,
    ) -> Result<Profile, Error> {
        let set = |text: &String| (!text.trim().is_empty()).then(|| text.clone());
        let mut patch = UpsertRequest {
            user: user.to_string(),
            name: set(&claims.name),
            phone: set(&claims.phone),
            email: set(&claims.email),
            country: set(&claims.country),
            brand: None,
            plan: set(&claims.plan),
        };
        // at nearly every sign-in nothing has changed
        if let (Some(old), Ok(new)) = (old, profile::apply(old, user, &patch, &self.config))
            && *old == new
        {
            return Ok(new);
        }
        match self.upsert_profile(user, &patch).await {
            Err(Error::Refused(Code::Conflict | Code::InvalidArgument, reason))
                if patch.phone.is_some() =>
            {
                self.metrics.claims_ignored.add(1);
                tracing::warn!(%reason, "a sign-in's claims are not as they should be, so its phone number is left out");
                patch.phone = None;
                self.upsert_profile(user, &patch).await
            }
            done => done,
        }
    }
}
