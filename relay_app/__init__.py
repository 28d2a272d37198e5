"""An SMTP relay: takes mail from devices that know only a password, hands it to Outlook with OAuth 2.0."""
