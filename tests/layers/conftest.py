"""The small force field that layers are tried in."""

from tests.models.conftest import pair_net as pair_net
