"""Our authorised links to merchants' stores."""
