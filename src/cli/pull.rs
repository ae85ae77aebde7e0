//! `rl pull`.

use crate::engine::image_for::{self, Fetch};
use crate::engine::pull::Policy;
use crate::engine::{Context, Error};
use crate::model::Platform;

/// Fetch images from a registry
#[derive(Debug, clap::Args)]
pub struct PullArgs {
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Verify TLS certificates and refuse plain http
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    tls_verify: bool,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// When to fetch: always, missing, newer
    #[arg(long, value_name = "WHEN", default_value = "always")]
    policy: String,
    /// Names of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Fetches each image in turn; returns their ids, one a line.
///
/// # Errors
/// The first image that cannot be had.
pub fn pull(context: &Context<'_>, args: &PullArgs) -> Result<String, Error> {
    let platform = args.platform.as_deref().map(str::parse).transpose()?;
    let fetch = Fetch {
        policy: args.policy.parse::<Policy>()?,
        platform: platform.unwrap_or_else(Platform::host),
        tls_verify: args.tls_verify,
    };
    let mut out = String::new();
    for word in &args.images {
        let image = image_for::pull(context, word, &fetch)?;
        context.event("image", word, word, "pull");
        out.push_str(&format!("{}\n", image.id.hex()));
    }
    Ok(out)
}
