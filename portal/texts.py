"""Every word that a guest reads, in one place; another language is another Texts."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Texts:
    """Words in braces are filled in by the page."""

    language: str = "en"
    title: str = "Wi-Fi login"
    invitation: str = "Log in to use the Internet."
    user: str = "Name or voucher code"
    password: str = "Password"  # noqa: S105
    no_password_needed: str = "a voucher needs none"  # noqa: S105
    remember: str = "Remember this device"
    show: str = "Show"
    hide: str = "Hide"
    log_in: str = "Log in"
    help: str = "Need help?"

    online: str = "You’re online"
    online_hint: str = "You can close this page. To come back, open {address}"
    account: str = "Account"
    time_left: str = "Time left"
    data_left: str = "Data left"
    time_online: str = "Time online"
    downloaded: str = "Downloaded"
    uploaded: str = "Uploaded"
    log_out: str = "Log out"

    no_lease_title: str = "Please reconnect"
    no_lease: str = "This network doesn’t recognise your device yet."
    no_lease_steps: tuple[str, ...] = (
        "Turn Wi-Fi off on your device, and on again.",
        "Choose this network once more.",
        "If your device has a fixed IP address, set it to automatic (DHCP).",
    )
    try_again: str = "Try again"

    wrong: str = "Wrong name or password."
    no_password: str = "This is no voucher’s code. With a name, please enter the password too."  # noqa: S105
    unavailable: str = "Login isn’t working right now. Please try again in a moment."
    status_unavailable: str = "This page isn’t working right now. Please try again in a moment."
    stale: str = "This page was open for a long time. Please try once more."
    too_many_tries: str = "Too many tries. Please wait {wait_s} seconds, then try again."

    not_found_title: str = "There is no such page"
    error_title: str = "Something went wrong"
    too_large: str = "That was too much text."
    to_start: str = "To the start"

    # RFC 2866, 5.10: Acct-Terminate-Cause of the session that ended here
    ended: dict[int, str] = field(
        default_factory=lambda: {
            1: "You’re logged out.",
            4: "You were logged out because your device was quiet for a long time.",
            5: "Your time is up.",
            6: "Your connection was ended by the operator.",
            10: "Your data allowance is used up.",
        }
    )
    ended_otherwise: str = "Your connection has ended. Please log in again."


ENGLISH = Texts()
NO_BREAK = "\u00a0"  # a number and its unit stay on one line


def duration(seconds: int) -> str:
    """The two largest units: 2 d 5 h, 1 h 23 min, 4 min 10 s, 12 s."""
    days, hours, minutes, rest = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60, seconds % 60
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    first = next((place for place, (number, _) in enumerate(parts) if number), len(parts) - 1)
    shown = [f"{number}{NO_BREAK}{unit}" for number, unit in parts[first : first + 2] if number]
    return " ".join(shown) or f"0{NO_BREAK}s"


def octets(number: int) -> str:
    """Powers of 1000 with three digits, as phones count them: 999 B, 1.23 MB, 45.6 GB, 789 TB."""
    value, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    digits = 0 if units[0] == "B" or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f}{NO_BREAK}{units[0]}"
