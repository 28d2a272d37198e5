"""The real parts around the relay: servers, clients, certificates, and what they said."""
