"""Which release of Ingle this is: the one place where the number stands; the build reads it from here."""

VERSION = "0.1.0"
