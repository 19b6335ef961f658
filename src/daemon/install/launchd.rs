//! A LaunchAgent (launchd.plist(5)). Written and checked without a Mac so far.

use std::path::PathBuf;

use super::{MARK, Wanted, user_folder};
use crate::api::Error;

/// Where launchd looks for the agents of a user.
pub(super) fn file(service: &str) -> Result<PathBuf, Error> {
    Ok(user_folder()?.join("Library/LaunchAgents").join(format!("{}.plist", label(service))))
}

/// The name that launchd knows it by.
pub(super) fn label(service: &str) -> String {
    format!("local.{service}")
}

/// Started at log-in, and again if it fails, not if it ends by itself.
pub(super) fn text(service: &str, wanted: &Wanted<'_>) -> String {
    let words: String =
        wanted.words.iter().map(|word| format!("\t\t<string>{}</string>\n", escaped(word))).collect();
    let path = wanted.path.as_ref().map_or_else(String::new, |path| {
        format!(
            "\t<key>EnvironmentVariables</key>\n\t<dict>\n\t\t<key>PATH</key>\n\t\t<string>{}</string>\n\t</dict>\n",
            escaped(path)
        )
    });
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!-- {MARK} -->\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n\
         <dict>\n\
         \t<key>Label</key>\n\
         \t<string>{label}</string>\n\
         \t<key>ProgramArguments</key>\n\
         \t<array>\n{words}\t</array>\n\
         {path}\
         \t<key>RunAtLoad</key>\n\
         \t<true/>\n\
         \t<key>KeepAlive</key>\n\
         \t<dict>\n\
         \t\t<key>SuccessfulExit</key>\n\
         \t\t<false/>\n\
         \t</dict>\n\
         \t<key>ThrottleInterval</key>\n\
         \t<integer>10</integer>\n\
         \t<key>ExitTimeOut</key>\n\
         \t<integer>15</integer>\n\
         \t<key>Umask</key>\n\
         \t<integer>63</integer>\n\
         \t<key>WorkingDirectory</key>\n\
         \t<string>/</string>\n\
         \t<key>StandardOutPath</key>\n\
         \t<string>/dev/null</string>\n\
         \t<key>StandardErrorPath</key>\n\
         \t<string>/dev/null</string>\n\
         </dict>\n\
         </plist>\n",
        label = escaped(&label(service)),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
