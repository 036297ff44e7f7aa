import pytest
import torch

from plr_edge.generative.latent_generator import LatentGenerator

WIDTHS = (12, 10, 8)


def generator(n_classes=3, **options):
    torch.manual_seed(0)
    made = LatentGenerator([(width,) for width in WIDTHS], z_width=5, **options)
    made.grow(n_classes)
    return made


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_sample_runs_only_the_stages_that_its_level_needs(level):
    made, ran = generator(), []
    for i, stage in enumerate(made.stages):
        stage.register_forward_hook(lambda *_, i=i: ran.append(i))
    feature = made.sample(torch.tensor([0, 1, 2, 2]), level)
    assert feature.shape == (4, WIDTHS[level])
    assert ran == list(range(2, level - 1, -1))


def test_levels_of_one_code_agree_however_deep_it_is_decoded():
    made = generator(gated_share=0.5)
    z, context = torch.randn(6, 5), torch.eye(3).repeat(2, 1)
    whole = made.decode(z, context)
    for level in (1, 2):
        for a, b in zip(whole[level:], made.decode(z, context, level), strict=True):
            torch.testing.assert_close(a, b)


def test_a_class_leaves_its_gated_units_silent_and_the_latent_open():
    made = generator(gated_share=0.7)
    context = torch.tensor([[0.0, 1.0, 0.0]]).repeat(50, 1)
    latent, *hidden = made.decode(torch.randn(50, 5), context)
    for i, feature in enumerate(hidden, 1):
        assert (feature[:, made.masks[i][1] == 0] == 0).all()
    assert (latent != 0).all()


def test_a_new_class_leaves_what_the_others_generate_as_it_was():
    made = generator(gated_share=0.5)
    classes = torch.tensor([0, 1, 2])
    before = made.sample(classes, 0, torch.Generator().manual_seed(1))
    assert [len(parameter) for parameter in made.grow(5)] == [2, 2]  # means, log-variances
    assert made.n_classes == 5
    after = made.sample(classes, 0, torch.Generator().manual_seed(1))
    torch.testing.assert_close(before, after)


def test_maps_are_pooled_and_enlarged_to_their_shape():
    made = LatentGenerator([(4, 6, 6), (7,)], z_width=3, pool=2)
    made.grow(2)
    assert made.sample(torch.tensor([0, 1]), 0).shape == (2, 4, 6, 6)
    assert made.sample(torch.tensor([0, 1]), 1).shape == (2, 7)
    latents = torch.randn(3, 4, 6, 6)
    vectors = made.pooled(latents)
    torch.testing.assert_close(made.pooled(made.unpooled(vectors, 0)), vectors)


@pytest.mark.parametrize("fitted_modes", [True, False])
def test_what_it_was_trained_on_comes_back_by_class(fitted_modes):
    torch.manual_seed(0)
    centres = 3 * torch.randn(3, 12)
    made = generator(fitted_modes=fitted_modes)
    optimizer = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(400 if fitted_modes else 1500):  # modes learn slowly by gradient
        y = torch.randint(3, (48,))
        x = centres[y] + 0.3 * torch.randn(48, 12)
        features = [x, torch.relu(x[:, :10]), torch.relu(x[:, :8])]
        context = torch.nn.functional.one_hot(y, 3).float()
        optimizer.zero_grad()
        made.loss(made.encode(x), features, context, 1 / 100).backward()
        optimizer.step()
    classes = torch.arange(3).repeat(40)
    samples = made.sample(classes, 0)
    nearest = torch.cdist(samples, centres).argmin(1)
    assert (nearest == classes).float().mean() > 0.95


def test_multiply_adds_are_those_of_the_stages():
    made = generator()
    assert [made.decode_macs(i) for i in range(3)] == [5 * 8 + 80 + 120, 5 * 8 + 80, 5 * 8]
    assert made.encode_macs == 120 + 80 + 2 * 8 * 5
    assert generator(feedback=True).encode_macs == 2 * 8 * 5


def test_a_code_of_vanishing_variance_teaches_no_value_that_is_not_finite():
    """A regression: log q was 0 x infinity, and the classifier's trunk became NaN."""
    made = generator()
    mean, log_var = torch.zeros(2, 5), torch.tensor([[-200.0] * 5, [0.0] * 5])
    mean.requires_grad_(), log_var.requires_grad_()
    features = [torch.rand(2, width) for width in WIDTHS]
    made.loss((mean, log_var), features, torch.eye(3)[:2], 1.0).backward()
    assert torch.isfinite(mean.grad).all() and torch.isfinite(log_var.grad).all()


def test_an_encoder_gives_no_variance_that_a_step_could_diverge_by():
    made = generator()
    with torch.no_grad():
        made.to_log_var.bias.fill_(1e4)
    _, log_var = made.encode(torch.randn(4, WIDTHS[0]))
    assert torch.exp(0.5 * log_var).max() < 200
