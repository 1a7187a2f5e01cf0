"""What is written to guests, in their language. Nothing that they typed: it may be another person's address."""

from appliance.config import Config

# By language: the subject; what to do; how long; who didn't ask for it.
_CONFIRM = {
    "en": (
        "Confirm your e-mail address",
        "Please open this link on the Wi-Fi you registered for:",
        "It works once, within 24 hours.",
        "If you didn't ask for this, do nothing.",
    ),
    "cs": (
        "Potvrďte svou e-mailovou adresu",
        "Otevřete prosím tento odkaz na Wi-Fi, ke které jste se zaregistrovali:",
        "Funguje jednou, do 24 hodin.",
        "Pokud jste o to nežádali, nic nedělejte.",
    ),
    "sk": (
        "Potvrďte svoju e-mailovú adresu",
        "Otvorte prosím tento odkaz na Wi-Fi, ku ktorej ste sa zaregistrovali:",
        "Funguje raz, do 24 hodín.",
        "Ak ste o to nežiadali, nerobte nič.",
    ),
    "de": (
        "Bestätigen Sie Ihre E-Mail-Adresse",
        "Bitte öffnen Sie diesen Link in dem WLAN, für das Sie sich registriert haben:",
        "Er funktioniert einmal, innerhalb von 24 Stunden.",
        "Wenn Sie das nicht angefordert haben, tun Sie nichts.",
    ),
    "pl": (
        "Potwierdź swój adres e-mail",
        "Otwórz ten link w sieci Wi-Fi, w której nastąpiła rejestracja:",
        "Działa jeden raz, przez 24 godziny.",
        "Jeśli to nie Twoja prośba, nic nie rób.",
    ),
    "es": (
        "Confirme su dirección de correo",
        "Abra este enlace en la red wifi en la que se ha registrado:",
        "Funciona una sola vez, durante 24 horas.",
        "Si no lo ha pedido usted, no haga nada.",
    ),
    "fr": (
        "Confirmez votre adresse e-mail",
        "Veuillez ouvrir ce lien sur le réseau Wi-Fi où vous vous êtes inscrit :",
        "Il fonctionne une seule fois, pendant 24 heures.",
        "Si vous n’avez rien demandé, ne faites rien.",
    ),
    "uk": (
        "Підтвердьте адресу електронної пошти",
        "Відкрийте це посилання в мережі Wi-Fi, у якій ви зареєструвалися:",
        "Воно діє один раз, протягом 24 годин.",
        "Якщо ви цього не просили, нічого не робіть.",
    ),
}


def confirm(config: Config, language: str, token: str) -> tuple[str, str]:
    """Subject and body."""
    subject, open_it, once, ignore = _CONFIRM.get(language, _CONFIRM["en"])
    link = f"{config.portal_url}confirm?token={token}"
    return f"{config.site.name}: {subject}", f"{open_it}\n\n{link}\n\n{once}\n{ignore}\n\n{config.site.name}\n"
