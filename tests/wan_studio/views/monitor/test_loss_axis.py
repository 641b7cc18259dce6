"""The numbers at the axes of the loss curves."""

from wan_studio.views.monitor.loss_plot import LossPlot


def test_a_change_of_scheme_does_not_scale_the_numbers(qtbot):
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.show()
    plot.getPlotItem().setYRange(0, 0.9)
    plot.restyle()
    assert [plot.getPlotItem().getAxis(name).autoSIPrefixScale for name in ("left", "bottom")] == [1.0, 1.0]
